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

/** Key management algorithms that OpenID providers have and Curfew refuses, each with the reason. */
const REFUSED: readonly (readonly [name: RegExp, why: string])[] = [
  [/^RSA1_5$/, 'its padding is broken (RFC 8725 3.2)'],
  [
    /^(?:dir|A\d+(?:GCM)?KW|PBES2-.*)$/,
    "it encrypts with a secret that is shared with the client, and Curfew never has the client's secret",
  ],
  [/^RSA-OAEP-(?:384|512)$/, 'Curfew does not encrypt with this hash'],
]

/**
 * The fault of the encryption that a client registered for ID tokens, as the predicate of a sentence; null if Curfew encrypts so.
 */
export function encryptionFault(value: unknown): string | null {
  if (ENCRYPTION_ALGORITHMS.some((name) => name === value)) return null
  const name = typeof value === 'string' ? value : ''
  const why = REFUSED.find(([refused]) => refused.test(name))?.[1]
  if (why === undefined)
    return `must be one of ${ENCRYPTION_ALGORITHMS.join(', ')}: logout tokens are encrypted like ID tokens`
  return `must not be ${name}: ${why}. Set RSA-OAEP-256 or ECDH-ES for this client at the identity provider and in the client, and register that`
}

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
