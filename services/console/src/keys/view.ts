import type { SigningKey } from '@curfew/contract'
import { keyState, keyTimes, type SigningAlgorithm } from '@curfew/domain'
import type { SigningKeyRecord } from '@curfew/ledger'
import { thumbprintOf } from '@curfew/tokens'

/** The keys of one algorithm. Only these replace each other in rotations. */
export function ofAlgorithm<Key extends { readonly algorithm: SigningAlgorithm }>(
  keys: readonly Key[],
  algorithm: SigningAlgorithm,
): readonly Key[] {
  return keys.filter((key) => key.algorithm === algorithm)
}

/** The response body for a key. @param all all keys of its issuer. */
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
