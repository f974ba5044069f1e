import type { SigningKey } from '@curfew/contract'
import { keyState, keyTimes, type SigningAlgorithm } from '@curfew/domain'
import type { SigningKeyRecord } from '@curfew/ledger'
import { thumbprintOf } from '@curfew/tokens'

/** Those of an issuer's keys that are for one algorithm: they follow one another. */
export function ofAlgorithm<Key extends { readonly algorithm: SigningAlgorithm }>(
  keys: readonly Key[],
  algorithm: SigningAlgorithm,
): readonly Key[] {
  return keys.filter((key) => key.algorithm === algorithm)
}

/** A key as it is shown. @param all that its issuer has. */
export async function keyView(
  key: SigningKeyRecord,
  all: readonly SigningKeyRecord[],
  now: Date,
): Promise<SigningKey> {
  const related = ofAlgorithm(all, key.algorithm)
  const { signsUntil, publishedUntil } = keyTimes(key, related)
  return {
    kid: key.kid,
    alg: key.algorithm,
    source: key.source,
    state: keyState(key, related, now),
    thumbprint: await thumbprintOf(key.publicJwk),
    public_jwk: { ...key.publicJwk },
    created_at: key.createdAt.toISOString(),
    published_at: key.publishedAt.toISOString(),
    signs_from: key.signsFrom.toISOString(),
    signs_until: signsUntil?.toISOString() ?? null,
    published_until: publishedUntil?.toISOString() ?? null,
  }
}
