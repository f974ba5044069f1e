/**
 * JWE algorithms for tokens (RFC 7518 4.1). RSA1_5 is missing because it is broken, and `dir` because it needs a shared secret.
 */
export const ENCRYPTION_ALGORITHMS = [
  'RSA-OAEP',
  'RSA-OAEP-256',
  'ECDH-ES',
  'ECDH-ES+A128KW',
  'ECDH-ES+A192KW',
  'ECDH-ES+A256KW',
] as const
export type EncryptionAlgorithm = (typeof ENCRYPTION_ALGORITHMS)[number]

/** Content encryption algorithms (RFC 7518 5.1). */
export const CONTENT_ENCRYPTIONS = [
  'A128CBC-HS256',
  'A192CBC-HS384',
  'A256CBC-HS512',
  'A128GCM',
  'A192GCM',
  'A256GCM',
] as const
export type ContentEncryption = (typeof CONTENT_ENCRYPTIONS)[number]

/** The default of `id_token_encrypted_response_enc` (OIDC Dynamic Registration 2). */
export const DEFAULT_CONTENT_ENCRYPTION: ContentEncryption = 'A128CBC-HS256'

/** The encryption that an RP registered for ID tokens, which applies to logout tokens as well (Back-Channel Logout 2.4). */
export interface TokenEncryption {
  readonly alg: EncryptionAlgorithm
  readonly enc: ContentEncryption
  /** The registered keys; null if they are at `jwksUri`. */
  readonly jwks: unknown
  readonly jwksUri: string | null
}
