import {
  type ContentEncryption,
  DEFAULT_CONTENT_ENCRYPTION,
  type EncryptionAlgorithm,
  type TokenEncryption,
} from '@curfew/domain'

/** What OIDC client metadata says of encryption; it was checked when it was registered. Null: tokens go signed only. */
export function toEncryption({
  id_token_encrypted_response_alg: alg,
  id_token_encrypted_response_enc: enc = DEFAULT_CONTENT_ENCRYPTION,
  jwks = null,
  jwks_uri: jwksUri = null,
}: Readonly<Record<string, unknown>>): TokenEncryption | null {
  if (typeof alg !== 'string') return null
  return {
    alg: alg as EncryptionAlgorithm,
    enc: enc as ContentEncryption,
    jwks,
    jwksUri: typeof jwksUri === 'string' && jwks === null ? jwksUri : null,
  }
}
