import type { ContentEncryption, EncryptionAlgorithm, TokenEncryption } from '@curfew/domain'

/** How a relying party wants its tokens encrypted, as stored; it was checked when it was registered. */
export interface StoredEncryption {
  readonly alg: EncryptionAlgorithm
  readonly enc: ContentEncryption
  /** Its key set as registered, or where it is. */
  readonly jwks?: unknown
  readonly jwks_uri?: string
}

/** Null: tokens go signed only. */
export function toEncryption(stored: StoredEncryption | null): TokenEncryption | null {
  if (stored === null) return null
  const { alg, enc, jwks = null, jwks_uri: jwksUri = null } = stored
  return { alg, enc, jwks, jwksUri: jwks === null ? jwksUri : null }
}
