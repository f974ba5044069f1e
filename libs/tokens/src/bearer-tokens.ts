import { decodeJwt, decodeProtectedHeader, errors, type JWTPayload, jwtVerify } from 'jose'
import { createKeySets, type FetchJwks, withAliases } from './key-sets.ts'
import { isAccessToken } from './token-type.ts'

/** The JWT access tokens that a resource server accepts. */
export interface BearerTokenRules {
  /** The `iss` of the tokens, compared byte for byte. */
  readonly issuer: string
  /** One of these must be in `aud`. Empty: `aud` is not checked. */
  readonly audiences: readonly string[]
  /** JWS algorithms of the tokens; asymmetric ones only. */
  readonly algorithms: readonly string[]
  /** The clock difference to tolerate, in seconds. */
  readonly clockSkewS: number
  /** Accepts a token whose `typ` is not `at+jwt`. */
  readonly anyType: boolean
  /** `none`: another party has verified the signature. All other rules hold. */
  readonly verify: 'signature' | 'none'
}

/** Why a token is not accepted. It names no value of the token. */
export type BearerTokenFault =
  | 'not_jwt'
  | 'algorithm'
  | 'key'
  | 'signature'
  | 'issuer'
  | 'audience'
  | 'expired'
  | 'not_yet_valid'
  | 'type'
  | 'claims'

export type BearerTokenVerification =
  | { readonly ok: true; readonly claims: Readonly<JWTPayload & { readonly exp: number }> }
  | { readonly ok: false; readonly fault: BearerTokenFault }

export interface BearerTokenDeps {
  readonly rules: BearerTokenRules
  /** Fetches the issuer's JWK Set through the guarded HTTP client. */
  readonly fetchJwks: () => ReturnType<FetchJwks>
  readonly now: () => Date
}

export interface BearerTokens {
  /** Rejects with an `AuthorizationServerUnavailableError` if the keys of the issuer have never been fetched. */
  verify(token: string): Promise<BearerTokenVerification>
  /** Fetches the keys if none are known. Rejects as `verify` does. */
  prepare(): Promise<void>
}

/** Creates a verifier of the access tokens of one issuer: signature, issuer, audience, times, type and algorithm (RFC 8725, RFC 9068 4). */
export function createBearerTokens({ rules, fetchJwks, now }: BearerTokenDeps): BearerTokens {
  const keySets = createKeySets({ fetchJwks, now })
  const source = { issuer: rules.issuer, jwksUri: rules.issuer }
  const algorithms = withAliases(rules.algorithms)

  async function verified(token: string): Promise<BearerTokenVerification> {
    const { payload, protectedHeader } = await keySets.use(source, (keys) =>
      jwtVerify(token, keys, {
        algorithms,
        issuer: rules.issuer,
        ...(rules.audiences.length > 0 && { audience: [...rules.audiences] }),
        requiredClaims: ['exp'],
        clockTolerance: rules.clockSkewS,
        currentDate: now(),
      }),
    )
    return typed(payload, protectedHeader.typ)
  }

  function decoded(token: string): BearerTokenVerification {
    const payload = decodeJwt(token)
    const { typ, alg } = decodeProtectedHeader(token)
    if (alg === undefined || !algorithms.includes(alg)) return { ok: false, fault: 'algorithm' }
    if (payload.iss !== rules.issuer) return { ok: false, fault: 'issuer' }
    const named = [payload.aud].flat()
    if (rules.audiences.length > 0 && !rules.audiences.some((audience) => named.includes(audience)))
      return { ok: false, fault: 'audience' }
    const nowS = now().getTime() / 1_000
    const { exp, nbf } = payload as { readonly exp?: unknown; readonly nbf?: unknown }
    if (typeof exp !== 'number' || (nbf !== undefined && typeof nbf !== 'number'))
      return { ok: false, fault: 'claims' }
    if (exp <= nowS - rules.clockSkewS) return { ok: false, fault: 'expired' }
    if (nbf !== undefined && nbf > nowS + rules.clockSkewS) return { ok: false, fault: 'not_yet_valid' }
    return typed(payload, typ)
  }

  function typed(payload: JWTPayload, typ: string | undefined): BearerTokenVerification {
    return isAccessToken(payload, typ, rules)
      ? { ok: true, claims: payload as JWTPayload & { exp: number } }
      : { ok: false, fault: 'type' }
  }

  return {
    async verify(token) {
      try {
        return rules.verify === 'signature' ? await verified(token) : decoded(token)
      } catch (error) {
        if (error instanceof errors.JOSEError) return { ok: false, fault: faultOf(error) }
        // jose throws it for a token that cannot be decoded.
        if (error instanceof TypeError && rules.verify === 'none') return { ok: false, fault: 'not_jwt' }
        throw error
      }
    },
    async prepare() {
      if (rules.verify === 'signature') await keySets.use(source, async () => undefined)
    },
  }
}

function faultOf(error: errors.JOSEError): BearerTokenFault {
  if (error instanceof errors.JWTExpired) return 'expired'
  if (error instanceof errors.JWTClaimValidationFailed) {
    if (error.claim === 'iss') return 'issuer'
    if (error.claim === 'aud') return 'audience'
    if (error.claim === 'nbf' && error.reason === 'check_failed') return 'not_yet_valid'
    return 'claims'
  }
  if (error instanceof errors.JWSSignatureVerificationFailed) return 'signature'
  if (error instanceof errors.JWKSNoMatchingKey || error instanceof errors.JWKSMultipleMatchingKeys)
    return 'key'
  if (error instanceof errors.JOSEAlgNotAllowed || error instanceof errors.JOSENotSupported)
    return 'algorithm'
  return 'not_jwt'
}
