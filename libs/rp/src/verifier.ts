import { errors, type JSONWebKeySet, type JWK, type JWTVerifyGetKey, jwtVerify } from 'jose'
import { claimsFault, type LogoutTokenClaims, usableForS } from './claims.ts'
import { decryptToken } from './decrypt.ts'
import { headerOf } from './header.ts'
import { createIssuerKeys, KeysUnavailableError } from './keys.ts'

export interface LogoutTokenVerifierOptions {
  /** The issuer, byte for byte as in ID tokens. Its discovery document says where its keys are. */
  readonly issuer: string
  /** The RP's own `client_id`. */
  readonly clientId: string
  /** Keys that are known beforehand: nothing is fetched. */
  readonly jwks?: JSONWebKeySet | undefined
  /** Where the keys are, for an issuer without discovery. */
  readonly jwksUri?: string | undefined
  /** The signature algorithms to take; best the one that was registered for ID tokens. Default every asymmetric one. */
  readonly algorithms?: readonly string[] | undefined
  /**
   * Takes what older OPs send: no `typ` or `JWT`, and no `exp`; then the age is bounded by `iat`. Default false.
   */
  readonly lenient?: boolean | undefined
  /** By how much clocks may differ, in seconds. Default 60. */
  readonly clockSkewS?: number | undefined
  /** Private keys for tokens that are encrypted to the RP. Default none: an encrypted token is refused. */
  readonly decryptionKeys?: readonly JWK[] | undefined
  /** Refuses a token that is not encrypted. Default false. */
  readonly requireEncryption?: boolean | undefined
  /** Takes the issuer's documents over plain http: for loopback and development. Default false. */
  readonly allowInsecureHttp?: boolean | undefined
  /** Hears of failures that no refusal tells of, such as that the keys could not be refreshed. Default `console.error`. */
  readonly onError?: ((error: unknown) => void) | undefined
  readonly fetch?: typeof fetch | undefined
  readonly now?: (() => Date) | undefined
}

/**
 * Whether a token may be acted on. If not: `invalid_request` means never, `logout_failed` that it could not be found out now;
 * `description` says why, in words for the OP's log; `cause` is for the RP's own.
 */
export type Verification =
  | {
      readonly ok: true
      readonly claims: LogoutTokenClaims
      /** For how long the same token would pass again, in seconds. */
      readonly usableForS: number
    }
  | {
      readonly ok: false
      readonly error: 'invalid_request' | 'logout_failed'
      readonly description: string
      readonly cause?: unknown
    }

export interface LogoutTokenVerifier {
  /** Never rejects. Does not look whether the `jti` was used before: the receiver does. */
  verify(token: string): Promise<Verification>
}

const ALGORITHMS = [
  ...['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'],
  ...['ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519'],
]
/** Far above what any OP sends. */
const TOKEN_LENGTH_MAX = 16 * 1024

/**
 * Verifies logout tokens as an RP must (Back-Channel Logout 2.6, steps 1 to 7).
 *
 * @throws {TypeError} when an option is wrong.
 */
export function createLogoutTokenVerifier(options: LogoutTokenVerifierOptions): LogoutTokenVerifier {
  const { issuer, clientId, algorithms = ALGORITHMS, clockSkewS: skewS = 60, decryptionKeys = [] } = options
  const {
    lenient = false,
    requireEncryption = false,
    allowInsecureHttp = false,
    now = () => new Date(),
  } = options
  const { onError = (error) => console.error(error), fetch = globalThis.fetch } = options
  if (!issuer) throw new TypeError('issuer is missing')
  if (!clientId) throw new TypeError('clientId is missing')
  if (requireEncryption && decryptionKeys.length === 0)
    throw new TypeError('requireEncryption needs decryptionKeys')
  // With a symmetric algorithm, whoever reads the issuer's public keys could sign (RFC 8725 2.1).
  const wrong = algorithms.filter((algorithm) => !ALGORITHMS.includes(algorithm))
  if (wrong.length > 0 || algorithms.length === 0)
    throw new TypeError(`algorithms are some of ${ALGORITHMS.join(', ')}; not ${wrong.join(', ') || 'none'}`)
  const keys = createIssuerKeys({ ...options, allowInsecureHttp, fetch, now, onError })

  return {
    async verify(token) {
      try {
        return await verify(token, keys)
      } catch (cause) {
        if (cause instanceof KeysUnavailableError)
          return {
            ok: false,
            error: 'logout_failed',
            description: 'the keys of the issuer cannot be had',
            cause,
          }
        if (cause instanceof errors.JOSEError)
          return { ok: false, error: 'invalid_request', description: describe(cause), cause }
        // Such as a key of the issuer that is too short or broken.
        return { ok: false, error: 'logout_failed', description: 'the token could not be verified', cause }
      }
    },
  }

  async function verify(token: string, keys: JWTVerifyGetKey): Promise<Verification> {
    if (token.length > TOKEN_LENGTH_MAX) return refuse('the token is too long')
    const encrypted = token.split('.').length === 5
    if (encrypted && decryptionKeys.length === 0)
      return refuse('the token is encrypted, and no key can open it')
    if (!encrypted && requireEncryption) return refuse('the token is not encrypted')
    // Such a token may say outside, too, who sent it (RFC 7519 5.3).
    const outerIss = encrypted ? headerOf(token).iss : undefined
    if (outerIss !== undefined && outerIss !== issuer) return refuse(`iss is not ${issuer}`)
    const jws = encrypted ? await decryptToken(token, decryptionKeys) : token
    // Before any key is fetched for it.
    const typeFault = faultOfType(headerOf(jws).typ)
    if (typeFault !== null) return refuse(typeFault)
    const currentDate = now()
    const { payload } = await jwtVerify(jws, keys, {
      issuer,
      audience: clientId,
      algorithms: [...algorithms],
      clockTolerance: skewS,
      currentDate,
    })
    const times = { nowS: currentDate.getTime() / 1_000, skewS }
    const fault = claimsFault(payload, { lenient, ...times })
    if (fault !== null) return refuse(fault)
    const claims = payload as unknown as LogoutTokenClaims
    return { ok: true, claims, usableForS: usableForS(claims, times) }
  }

  /** `typ` tells a logout token from the issuer's other JWTs (Back-Channel Logout 4.1, RFC 8725 3.11). */
  function faultOfType(typ: unknown): string | null {
    const type = typeof typ === 'string' ? typ.toLowerCase().replace(/^application\//, '') : typ
    if (type === 'logout+jwt' || (lenient && (type === undefined || type === 'jwt'))) return null
    return lenient ? 'typ is neither logout+jwt nor JWT' : 'typ is not logout+jwt'
  }

  /** Names what is wrong without repeating what a stranger sent. */
  function describe(error: errors.JOSEError): string {
    if (error instanceof errors.JWTExpired) return 'exp is in the past'
    if (error instanceof errors.JWTClaimValidationFailed) {
      if (error.reason === 'missing') return `${error.claim} is missing`
      if (error.claim === 'iss') return `iss is not ${issuer}`
      if (error.claim === 'aud') return `aud does not hold ${clientId}`
      return `${error.claim} is not valid`
    }
    if (error instanceof errors.JWSSignatureVerificationFailed) return 'the signature does not verify'
    if (error instanceof errors.JWKSNoMatchingKey) return 'no key of the issuer fits kid and alg'
    if (error instanceof errors.JWKSMultipleMatchingKeys) return 'kid is missing, and several keys fit'
    if (error instanceof errors.JOSEAlgNotAllowed) return `alg is none of ${algorithms.join(', ')}`
    if (error instanceof errors.JWEDecryptionFailed) return 'the token cannot be decrypted'
    return 'the token is malformed'
  }
}

function refuse(description: string): Verification {
  return { ok: false, error: 'invalid_request', description }
}
