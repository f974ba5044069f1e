import type { JWTPayload } from 'jose'

/** The member of `events` that makes a JWT a logout token. Literal, http, never fetched (Back-Channel Logout 2.4). */
export const LOGOUT_EVENT = 'http://schemas.openid.net/event/backchannel-logout'

/** Claims of a logout token that was verified (Back-Channel Logout 2.4). Times in seconds since 1970. */
export interface LogoutTokenClaims {
  readonly iss: string
  readonly aud: string | readonly string[]
  readonly iat: number
  /** Missing only from tokens that `lenient` let pass. */
  readonly exp?: number
  readonly jti: string
  /** At least one of `sub` and `sid` is there. */
  readonly sub?: string
  readonly sid?: string
  /** The issuer's id of the logout, if it gives one (RFC 8417 2.2). */
  readonly txn?: string
  readonly events: Readonly<Record<string, unknown>>
  /** Whatever else the issuer says. */
  readonly [claim: string]: unknown
}

export interface ClaimRules {
  readonly lenient: boolean
  readonly nowS: number
  readonly skewS: number
}

/** No logout is worth acting on after so long, whatever its `exp`; and no `jti` must be remembered for longer. */
const AGE_MAX_S = 24 * 3_600
/** How old a token without `exp` may be: what the specification advises for `exp` (section 4), and as much again. */
const AGE_MAX_WITHOUT_EXP_S = 240

/**
 * What is wrong with the claims beside `iss`, `aud` and `exp` (Back-Channel Logout 2.6, steps 4 to 7). These rules also keep
 * out every other kind of JWT that the issuer signs: an ID token has no `events`, or a `nonce`.
 */
export function claimsFault(payload: JWTPayload, { lenient, nowS, skewS }: ClaimRules): string | null {
  const { iat, exp, events, sub, sid, jti, txn }: Record<string, unknown> = payload
  if (typeof iat !== 'number') return 'iat is missing'
  if (iat > nowS + skewS) return 'iat is in the future'
  if (exp === undefined && !lenient) return 'exp is missing'
  const ageMaxS = exp === undefined ? AGE_MAX_WITHOUT_EXP_S : AGE_MAX_S
  if (nowS - skewS >= iat + ageMaxS) return 'iat is too long ago'
  if (!isText(jti)) return 'jti is not a text'
  if (sub === undefined && sid === undefined) return 'neither sub nor sid is present'
  if (sub !== undefined && !isText(sub)) return 'sub is not a text'
  if (sid !== undefined && !isText(sid)) return 'sid is not a text'
  if (txn !== undefined && typeof txn !== 'string') return 'txn is not a text'
  if (!isObject(events)) return 'events is not an object'
  if (!Object.hasOwn(events, LOGOUT_EVENT) || !isObject(events[LOGOUT_EVENT]))
    return `events has no object ${LOGOUT_EVENT}`
  if (Object.hasOwn(payload, 'nonce')) return 'nonce is prohibited'
  return null
}

/** For how long the token would pass once more, in whole seconds, at least 1. */
export function usableForS(
  { iat, exp }: LogoutTokenClaims,
  { nowS, skewS }: Omit<ClaimRules, 'lenient'>,
): number {
  const untilS = exp === undefined ? iat + AGE_MAX_WITHOUT_EXP_S : Math.min(exp, iat + AGE_MAX_S)
  return Math.max(1, Math.ceil(untilS + skewS - nowS))
}

function isText(value: unknown): boolean {
  return typeof value === 'string' && value !== ''
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
