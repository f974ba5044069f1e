import { ClaimsError } from './errors.ts'

/** The claims of a verified JWT, or those that a sealed cookie carries. Times are in seconds since 1970. */
export interface TokenClaims {
  readonly iss?: string
  readonly sub?: string
  readonly sid?: string
  readonly iat?: number
  readonly auth_time?: number
  readonly [claim: string]: unknown
}

/** The claim with which the time of a logout is compared. */
export type TokenTime = 'iat' | 'auth_time'

/** The known logouts of one issuer. Times are in whole seconds since 1970; 0: no logout is known. */
export interface Cutoffs {
  /** The time of the last logout of a session or a subject. */
  of(kind: 'sid' | 'sub', value: string): number
  /** The time of the last logout of all subjects. */
  readonly everybodyBefore: number
}

/**
 * Whether a logout ended the token: its session has a logout, or its subject or its issuer has one in the same second or later. Any
 * of them is enough. A token without a usable time is dead as soon as its subject or its issuer has a logout.
 *
 * @throws {ClaimsError} if the token is of another issuer, or its `sid` or `sub` is not text: the feed says nothing about it.
 */
export function isCutOff(
  claims: TokenClaims,
  cutoffs: Cutoffs,
  { issuer, since }: { readonly issuer: string; readonly since: TokenTime },
): boolean {
  if (claims.iss !== issuer) throw new ClaimsError('iss', `iss is not ${issuer}`)
  const [sid, sub] = [nameIn(claims, 'sid'), nameIn(claims, 'sub')]
  if (sid !== null && cutoffs.of('sid', sid) > 0) return true
  const before = Math.max(cutoffs.everybodyBefore, sub === null ? 0 : cutoffs.of('sub', sub))
  return before > 0 && secondOf(claims[since]) <= before
}

function nameIn(claims: TokenClaims, claim: 'sid' | 'sub'): string | null {
  const value: unknown = claims[claim] ?? null
  if (value === null || typeof value === 'string') return value
  throw new ClaimsError(claim, `${claim} is not text`)
}

/** The second of a time; before all times if it is not a number. */
function secondOf(time: unknown): number {
  return typeof time === 'number' && Number.isFinite(time) ? Math.floor(time) : Number.NEGATIVE_INFINITY
}
