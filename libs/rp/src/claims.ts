import type { JWTPayload } from 'jose'

/**
 * The member of `events` that marks a logout token (Back-Channel Logout 2.4). It is an identifier with `http:`, and is never
 * fetched.
 */
export const LOGOUT_EVENT = 'http://schemas.openid.net/event/backchannel-logout'

/** The claims of a verified logout token (Back-Channel Logout 2.4). Times are in seconds since 1970. */
export interface LogoutTokenClaims {
  readonly iss: string
  readonly aud: string | readonly string[]
  readonly iat: number
  /** Missing only in tokens that passed because of `lenient`. */
  readonly exp?: number
  readonly jti: string
  /** At least one of `sub` and `sid` is present. */
  readonly sub?: string
  readonly sid?: string
  /** The issuer's id of the logout, if it gives one (RFC 8417 2.2). */
  readonly txn?: string
  readonly events: Readonly<Record<string, unknown>>
  /** Other claims of the issuer. */
  readonly [claim: string]: unknown
}

export interface ClaimRules {
  readonly lenient: boolean
  readonly nowS: number
  readonly skewS: number
}

/** The greatest age of a token, whatever its `exp` is. It also limits how long a `jti` must be remembered. */
const AGE_MAX_S = 24 * 3_600
/** The greatest age of a token without `exp`: twice the two minutes that Back-Channel Logout 4 recommends for `exp`. */
const AGE_MAX_WITHOUT_EXP_S = 240

/**
 * Finds the first fault in the claims other than `iss`, `aud` and `exp` (Back-Channel Logout 2.6, steps 4 to 7). These rules also
 * reject the issuer's other kinds of JWT: ID tokens have no `events`, and a `nonce` is always refused.
 *
 * @returns null if the claims are good.
 */
export function claimsFault(payload: JWTPayload, { lenient, nowS, skewS }: ClaimRules): string | null {
  const { iat, exp, events, sub, sid, jti, txn }: Record<string, unknown> = payload
  if (typeof iat !== 'number') return 'iat is missing'
  if (iat > nowS + skewS) return 'iat is in the future'
  if (exp === undefined && !lenient) return 'exp is missing'
  const ageMaxS = exp === undefined ? AGE_MAX_WITHOUT_EXP_S : AGE_MAX_S
  if (nowS - skewS >= iat + ageMaxS) return 'iat is too long ago'
  if (!isText(jti)) return 'jti is not a non-empty string'
  if (sub === undefined && sid === undefined) return 'neither sub nor sid is present'
  if (sub !== undefined && !isText(sub)) return 'sub is not a non-empty string'
  if (sid !== undefined && !isText(sid)) return 'sid is not a non-empty string'
  if (txn !== undefined && typeof txn !== 'string') return 'txn is not a string'
  if (!isObject(events)) return 'events is not an object'
  if (!Object.hasOwn(events, LOGOUT_EVENT) || !isObject(events[LOGOUT_EVENT]))
    return `events has no object ${LOGOUT_EVENT}`
  if (Object.hasOwn(payload, 'nonce')) return 'nonce is prohibited'
  return null
}

/** The time for which the same token would still pass, in whole seconds, at least 1. */
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
