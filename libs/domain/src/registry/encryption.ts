/** JWE algorithms that tokens may be encrypted with (RFC 7518 4.1). RSA1_5 is broken, and `dir` would share a secret. */
export const ENCRYPTION_ALGORITHMS = [
  'RSA-OAEP',
  'RSA-OAEP-256',
  'ECDH-ES',
  'ECDH-ES+A128KW',
  'ECDH-ES+A192KW',
  'ECDH-ES+A256KW',
] as const
export type EncryptionAlgorithm = (typeof ENCRYPTION_ALGORITHMS)[number]

/** What the content is encrypted with (RFC 7518 5.1). */
export const CONTENT_ENCRYPTIONS = [
  'A128CBC-HS256',
  'A192CBC-HS384',
  'A256CBC-HS512',
  'A128GCM',
  'A192GCM',
  'A256GCM',
] as const
export type ContentEncryption = (typeof CONTENT_ENCRYPTIONS)[number]

/** `id_token_encrypted_response_enc` where only the algorithm was registered (OIDC Dynamic Registration 2). */
export const DEFAULT_CONTENT_ENCRYPTION: ContentEncryption = 'A128CBC-HS256'

/** An RP wants its tokens encrypted, logout tokens like ID tokens (Back-Channel Logout 2.4). */
export interface TokenEncryption {
  readonly alg: EncryptionAlgorithm
  readonly enc: ContentEncryption
  /** Its keys, as it registered them; null where they are at `jwksUri`. */
  readonly jwks: unknown
  readonly jwksUri: string | null
}
