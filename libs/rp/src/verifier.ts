import { errors, type JSONWebKeySet, type JWK, jwtVerify, UnsecuredJWT } from 'jose'
import { claimsFault, type LogoutTokenClaims, usableForS } from './claims.ts'
import { decryptToken } from './decrypt.ts'
import { headerOf } from './header.ts'
import { createIssuerKeys, type IssuerKeys, KeysUnavailableError } from './keys.ts'

export interface LogoutTokenVerifierOptions {
  /** The issuer identifier, byte for byte as in ID tokens. Its discovery document names the URL of its keys. */
  readonly issuer: string
  /** The RP's own `client_id`. */
  readonly clientId: string
  /** The issuer's keys. If they are given, nothing is fetched. */
  readonly jwks?: JSONWebKeySet | undefined
  /** The URL of the issuer's keys, for an issuer without discovery. */
  readonly jwksUri?: string | undefined
  /** Finds the issuer's keys, so that the verifiers of several clients share them. If it is given, the verifier fetches nothing. */
  readonly keys?: IssuerKeys | undefined
  /** The accepted signature algorithms. Set the one that is registered for ID tokens. Default: every asymmetric one. */
  readonly algorithms?: readonly string[] | undefined
  /**
   * Accepts tokens of older OPs: without `typ` or with `JWT`, and without `exp`. Then `iat` limits the age. Default false.
   */
  readonly lenient?: boolean | undefined
  /** The clock difference to tolerate, in seconds. Default 60. */
  readonly clockSkewS?: number | undefined
  /** Private keys for tokens that are encrypted to the RP. Default: none, and an encrypted token is refused. */
  readonly decryptionKeys?: readonly JWK[] | undefined
  /** Refuses a token that is not encrypted. Default false. */
  readonly requireEncryption?: boolean | undefined
  /** Fetches the issuer's documents over plain http, too. For loopback and development. Default false. */
  readonly allowInsecureHttp?: boolean | undefined
  /** Gets failures that cause no refusal, such as a failed refresh of the keys. Default `console.error`. */
  readonly onError?: ((error: unknown) => void) | undefined
  readonly fetch?: typeof fetch | undefined
  readonly now?: (() => Date) | undefined
}

/**
 * The result of a verification. `invalid_request`: the token is never valid. `logout_failed`: it could not be verified this time.
 * `description` is for the log of the OP, `cause` for the log of the RP.
 */
export type Verification =
  | {
      readonly ok: true
      readonly claims: LogoutTokenClaims
      /** The time for which the same token would still pass, in seconds. */
      readonly usableForS: number
    }
  | {
      readonly ok: false
      readonly error: 'invalid_request' | 'logout_failed'
      readonly description: string
      readonly cause?: unknown
    }

export interface LogoutTokenVerifier {
  /**
   * Verifies a token. Never rejects. It does not check for a used `jti`: the receiver does.
   *
   * @param at the time at which the token must be valid. Default: now.
   */
  verify(token: string, at?: Date): Promise<Verification>
  /**
   * Checks everything that needs no key, for a program that stores the token and verifies it later. Never rejects. The signature
   * is not verified, so no session may end because of the result.
   */
  preview(token: string, at?: Date): Promise<Verification>
}

const ALGORITHMS = [
  ...['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'],
  ...['ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519'],
]
/** Far above the length of any OP's token. */
const TOKEN_LENGTH_MAX = 16 * 1024
/** The header `{"alg":"none"}` in base64url. */
const UNSECURED = 'eyJhbGciOiJub25lIn0'

/**
 * Creates a verifier of logout tokens with the rules for RPs (Back-Channel Logout 2.6, steps 1 to 7).
 *
 * @throws {TypeError} if an option is wrong.
 */
export function createLogoutTokenVerifier(options: LogoutTokenVerifierOptions): LogoutTokenVerifier {
  const { issuer, clientId, clockSkewS: skewS = 60, decryptionKeys = [] } = options
  const algorithms = withAliases(options.algorithms ?? ALGORITHMS)
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
  // With a symmetric algorithm, any reader of the issuer's public keys could sign (RFC 8725 2.1).
  const wrong = algorithms.filter((algorithm) => !ALGORITHMS.includes(algorithm))
  if (wrong.length > 0 || algorithms.length === 0)
    throw new TypeError(
      `algorithms must contain some of ${ALGORITHMS.join(', ')} and no others; it has ${algorithms.join(', ') || 'none'}`,
    )
  const keys = options.keys ?? createIssuerKeys({ ...options, allowInsecureHttp, fetch, now, onError })

  return {
    verify: (token, at) => settled(check(token, at, keys)),
    preview: (token, at) => settled(check(token, at, null)),
  }

  async function settled(verification: Promise<Verification>): Promise<Verification> {
    try {
      return await verification
    } catch (cause) {
      if (cause instanceof KeysUnavailableError)
        return {
          ok: false,
          error: 'logout_failed',
          description: 'the keys of the issuer are unavailable',
          cause,
        }
      if (cause instanceof errors.JOSEError)
        return { ok: false, error: 'invalid_request', description: describe(cause), cause }
      // For example, a key of the issuer is too short or broken.
      return { ok: false, error: 'logout_failed', description: 'the token could not be verified', cause }
    }
  }

  /** @param keys null to leave the signature unverified. */
  async function check(token: string, at = now(), keys: IssuerKeys | null): Promise<Verification> {
    if (token.length > TOKEN_LENGTH_MAX) return refuse('the token is too long')
    const encrypted = token.split('.').length === 5
    if (encrypted && decryptionKeys.length === 0)
      return refuse('the token is encrypted, and no decryption key is set')
    if (!encrypted && requireEncryption) return refuse('the token is not encrypted')
    // The header of an encrypted token may repeat `iss` (RFC 7519 5.3).
    const outerIss = encrypted ? headerOf(token).iss : undefined
    if (outerIss !== undefined && outerIss !== issuer) return refuse(`iss is not ${issuer}`)
    const jws = encrypted ? await decryptToken(token, decryptionKeys) : token
    // Check the type first: a wrong one needs no fetch of keys.
    const typeFault = faultOfType(headerOf(jws).typ)
    if (typeFault !== null) return refuse(typeFault)
    const rules = { issuer, audience: clientId, clockTolerance: skewS, currentDate: at }
    const { payload } =
      keys === null
        ? UnsecuredJWT.decode(withoutSignature(jws), rules)
        : await jwtVerify(jws, keys, { ...rules, algorithms: [...algorithms] })
    const times = { nowS: at.getTime() / 1_000, skewS }
    const fault = claimsFault(payload, { lenient, ...times })
    if (fault !== null) return refuse(fault)
    const claims = payload as unknown as LogoutTokenClaims
    return { ok: true, claims, usableForS: usableForS(claims, times) }
  }

  /** The same claims as an unsecured token, on which jose applies its checks of claims alone. */
  function withoutSignature(jws: string): string {
    const { alg, crit } = headerOf(jws)
    if (typeof alg !== 'string' || !algorithms.includes(alg)) throw new errors.JOSEAlgNotAllowed()
    if (crit !== undefined) throw new errors.JOSENotSupported('crit is not supported')
    const [, payload, signature, ...rest] = jws.split('.')
    if (payload === undefined || !signature || rest.length > 0) throw new errors.JWTInvalid()
    return `${UNSECURED}.${payload}.`
  }

  /** Checks `typ`, which tells a logout token from the issuer's other JWTs (Back-Channel Logout 4.1, RFC 8725 3.11). */
  function faultOfType(typ: unknown): string | null {
    const type = typeof typ === 'string' ? typ.toLowerCase().replace(/^application\//, '') : typ
    if (type === 'logout+jwt' || (lenient && (type === undefined || type === 'jwt'))) return null
    return lenient ? 'typ is neither logout+jwt nor JWT' : 'typ is not logout+jwt'
  }

  /** Describes the fault without repeating any input of a stranger. */
  function describe(error: errors.JOSEError): string {
    if (error instanceof errors.JWTExpired) return 'exp is in the past'
    if (error instanceof errors.JWTClaimValidationFailed) {
      if (error.reason === 'missing') return `${error.claim} is missing`
      if (error.claim === 'iss') return `iss is not ${issuer}`
      if (error.claim === 'aud') return `aud does not contain ${clientId}`
      return `${error.claim} is not valid`
    }
    if (error instanceof errors.JWSSignatureVerificationFailed) return 'the signature does not verify'
    if (error instanceof errors.JWKSNoMatchingKey) return 'no key of the issuer matches kid and alg'
    if (error instanceof errors.JWKSMultipleMatchingKeys) return 'kid is missing, and several keys match'
    if (error instanceof errors.JOSEAlgNotAllowed) return `alg is not one of ${algorithms.join(', ')}`
    if (error instanceof errors.JWEDecryptionFailed) return 'the token cannot be decrypted'
    return 'the token is malformed'
  }
}

/** Each algorithm with its other name: `EdDSA` and `Ed25519` are the same signature (RFC 9864). */
function withAliases(algorithms: readonly string[]): readonly string[] {
  const either = ['EdDSA', 'Ed25519']
  const rest = algorithms.filter((algorithm) => !either.includes(algorithm))
  return rest.length === algorithms.length ? algorithms : [...rest, ...either]
}

function refuse(description: string): Verification {
  return { ok: false, error: 'invalid_request', description }
}
