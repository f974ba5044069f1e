import { isTokenAlgorithm, keyAlgorithmOf, type SigningAlgorithm } from '@curfew/domain'
import { isKid, thumbprintOf } from '@curfew/tokens'
import type { KeySets } from './key-sets.ts'

/**
 * Chooses the kid of a key that came without one, as every PEM file does. Relying parties look a key up by the kid in the IdP's
 * key set, so the kid under which the IdP publishes the same public key is the right one. Without it, the RFC 7638 thumbprint is.
 *
 * @returns the kid with the reason for it, in a sentence; or the fault if the IdP has the key for another algorithm.
 */
export async function chooseKid(
  { thumbprint, algorithm }: { readonly thumbprint: string; readonly algorithm: SigningAlgorithm },
  { discovery, published }: KeySets,
): Promise<{ readonly kid: string; readonly reason: string } | { readonly detail: string }> {
  const computed = 'its kid is its RFC 7638 thumbprint'
  if (published === null || published.keys === null) {
    const { what } = published?.finding ?? discovery
    return {
      kid: thumbprint,
      reason: `The key came without a kid, and the key set of the IdP could not be searched for it, so ${computed}. ${what} If the IdP publishes the key under another kid, retire this one and import it with that kid.`,
    }
  }
  const same = await publishedAs(published.keys, thumbprint)
  const fitting = same.find(({ alg }) => alg === undefined || algorithmOf(alg) === algorithm)
  if (fitting !== undefined)
    return { kid: fitting.kid, reason: `The IdP publishes this key with this kid at ${published.uri}.` }
  const [other] = same
  if (other !== undefined)
    return { detail: `must be ${other.alg}: the IdP publishes this key for it at ${published.uri}` }
  return {
    kid: thumbprint,
    reason: `The key came without a kid, and the IdP does not publish it at ${published.uri}, so ${computed}. Publish it there with this kid.`,
  }
}

/** The kids and algorithms with which a key set has a key. */
async function publishedAs(
  keys: readonly unknown[],
  thumbprint: string,
): Promise<readonly { readonly kid: string; readonly alg: string | undefined }[]> {
  const found: { kid: string; alg: string | undefined }[] = []
  for (const key of keys) {
    const { kid, alg } = Object(key) as Record<string, unknown>
    if (!isKid(kid)) continue
    // A key that is damaged, or of a kind that has no thumbprint, is another key.
    const its = await thumbprintOf(Object(key)).catch(() => null)
    if (its === thumbprint) found.push({ kid, alg: typeof alg === 'string' ? alg : undefined })
  }
  return found
}

function algorithmOf(alg: string): SigningAlgorithm | null {
  return isTokenAlgorithm(alg) ? keyAlgorithmOf(alg) : null
}
