import {
  LOGOUT_EVENT_MEMBER,
  LOGOUT_TOKEN_TYPE,
  type LogoutTokenClaims,
  SIGNING_ALGORITHMS,
} from '@curfew/domain'
import { createLocalJWKSet, errors, type JSONWebKeySet, type JWTPayload, jwtVerify } from 'jose'

export interface VerifyOptions {
  readonly issuer: string
  /** The RP's own `client_id`. */
  readonly audience: string
  /** The issuer's public keys. */
  readonly jwks: JSONWebKeySet
  /** What this RP registered; default every one that we sign with. */
  readonly algorithms?: readonly string[]
  readonly now: Date
  /** By how much clocks may differ, in seconds. Default 60. */
  readonly clockToleranceS?: number
  /** Refuse a token without `typ: logout+jwt`. Many issuers do not send it (Back-Channel Logout 4.1). */
  readonly requireType?: boolean
}

/** Whether a token may be acted on; if not, why, in the words of an RP's answer (Back-Channel Logout 2.8). */
export type Verification =
  | { readonly ok: true; readonly claims: LogoutTokenClaims }
  | { readonly ok: false; readonly error: 'invalid_request'; readonly description: string }

/**
 * Checks a logout token as an RP must (Back-Channel Logout 2.6). Whether its `jti` was seen before, and whether there is
 * such a session, is the RP's to say (steps 8 to 11).
 *
 * @throws when `jwks` is no key set.
 */
export async function verifyLogoutToken(token: string, options: VerifyOptions): Promise<Verification> {
  const { issuer, audience, jwks, algorithms = SIGNING_ALGORITHMS, now, requireType = false } = options
  const { clockToleranceS = 60 } = options
  const keys = createLocalJWKSet(jwks)
  const refuse = (description: string): Verification => ({ ok: false, error: 'invalid_request', description })
  try {
    const { payload, protectedHeader } = await jwtVerify(token, keys, {
      issuer,
      audience,
      algorithms: [...algorithms],
      requiredClaims: ['iss', 'aud', 'iat', 'exp', 'jti'],
      clockTolerance: clockToleranceS,
      currentDate: now,
    })
    if (requireType && protectedHeader.typ !== LOGOUT_TOKEN_TYPE)
      return refuse(`typ is not ${LOGOUT_TOKEN_TYPE}`)
    const fault = claimsFault(payload, now.getTime() / 1_000 + clockToleranceS)
    return fault === null ? { ok: true, claims: payload as unknown as LogoutTokenClaims } : refuse(fault)
  } catch (error) {
    if (error instanceof errors.JOSEError) return refuse(error.message)
    throw error
  }
}

/** What is wrong with the claims beside those that every JWT has. */
function claimsFault(payload: JWTPayload, latestS: number): string | null {
  const { iat, events, sub, sid, jti }: Record<string, unknown> = payload
  if (typeof iat !== 'number' || iat > latestS) return 'iat is in the future'
  if (!isText(jti)) return 'jti is not a text'
  if (sub === undefined && sid === undefined) return 'neither sub nor sid is present'
  if (sub !== undefined && !isText(sub)) return 'sub is not a text'
  if (sid !== undefined && !isText(sid)) return 'sid is not a text'
  if (!isObject(events)) return 'events is not an object'
  if (!isObject(events[LOGOUT_EVENT_MEMBER])) return `events has no member ${LOGOUT_EVENT_MEMBER}`
  if ('nonce' in payload) return 'nonce is prohibited'
  return null
}

function isText(value: unknown): boolean {
  return typeof value === 'string' && value !== ''
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
