/** JWS algorithms of signing keys: those of ID tokens, but never `none` (Back-Channel Logout 2.6). */
export const SIGNING_ALGORITHMS = [
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
] as const
export type SigningAlgorithm = (typeof SIGNING_ALGORITHMS)[number]

/**
 * The values of `alg` that Curfew reads and sends. `Ed25519` and `EdDSA` name the same signature (RFC 9864), and share a key. A
 * relying party compares the header of a token with its registration, so a token has the name that its client registered.
 */
export const TOKEN_ALGORITHMS = [...SIGNING_ALGORITHMS, 'Ed25519'] as const
export type TokenAlgorithm = (typeof TOKEN_ALGORITHMS)[number]

export function isTokenAlgorithm(value: unknown): value is TokenAlgorithm {
  return TOKEN_ALGORITHMS.some((name) => name === value)
}

/** The algorithm of the keys that sign in an algorithm. */
export function keyAlgorithmOf(algorithm: TokenAlgorithm): SigningAlgorithm {
  return algorithm === 'Ed25519' ? 'EdDSA' : algorithm
}

/** Algorithms that OpenID providers have and Curfew refuses: the reason, and the nearest algorithm that it takes. */
const REFUSED: Readonly<Record<string, { readonly why: string; readonly instead: string }>> = {
  HS256: secret('RS256'),
  HS384: secret('RS384'),
  HS512: secret('RS512'),
  none: {
    why: 'a logout token must be signed (Back-Channel Logout 2.6), and relying parties refuse one that is not',
    instead: 'RS256',
  },
  ES256K: {
    why: 'Curfew does not sign with the curve secp256k1, which few libraries verify',
    instead: 'ES256',
  },
  Ed448: { why: 'Curfew does not sign with the curve Ed448, which few libraries verify', instead: 'Ed25519' },
}

function secret(instead: string) {
  const why = "it signs with the client's secret, which Curfew never has"
  return { why, instead }
}

/** The fault of a signing algorithm that a client registered, as the predicate of a sentence; null if Curfew signs with it. */
export function clientAlgorithmFault(value: unknown): string | null {
  if (isTokenAlgorithm(value)) return null
  const { name, refused } = lookedUp(value)
  if (refused === undefined) return `${oneOf(name)}: logout tokens are signed like ID tokens`
  const { why, instead } = refused
  const relay = /^HS/.test(name)
    ? ' Until then the identity provider has to notify this client itself: the relay refuses such tokens too.'
    : ''
  return `must not be ${name}: ${why}. Set ${instead} for this client at the identity provider and in the client, and register that.${relay}`
}

/** The fault of the algorithm of a signing key, as the predicate of a sentence; null if Curfew signs with it. */
export function keyAlgorithmFault(value: unknown): string | null {
  if (isTokenAlgorithm(value)) return null
  const { name, refused } = lookedUp(value)
  if (refused === undefined) return oneOf(name)
  const why = /^HS/.test(name) ? 'relying parties verify with public keys, and it has none' : refused.why
  return `must not be ${name}: ${why}. Give a key for ${refused.instead}`
}

function lookedUp(value: unknown) {
  const name = typeof value === 'string' ? value : ''
  return { name, refused: Object.hasOwn(REFUSED, name) ? REFUSED[name] : undefined }
}

function oneOf(name: string): string {
  // The names are case-sensitive (RFC 7515 section 4.1.1).
  const meant = TOKEN_ALGORITHMS.find((known) => known.toLowerCase() === name.toLowerCase())
  return meant === undefined ? `must be one of ${TOKEN_ALGORITHMS.join(', ')}` : `must be written ${meant}`
}
