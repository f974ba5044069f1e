import { type Binding, type InFlightDelivery, TOKEN_LIFETIME_S } from '@curfew/domain'
import { type BackchannelSettings, namesOf } from './settings.ts'

/** The member of `events` that makes a JWT a logout token. Literal, http, never fetched (Back-Channel Logout 2.4). */
export const LOGOUT_EVENT_MEMBER = 'http://schemas.openid.net/event/backchannel-logout'
/** The `typ` of a logout token (Back-Channel Logout 2.4). */
export const LOGOUT_TOKEN_TYPE = 'logout+jwt'

/** Claims of a logout token (Back-Channel Logout 2.4). Times in seconds since 1970. `nonce` is prohibited. */
export interface LogoutTokenClaims {
  readonly iss: string
  readonly aud: string
  readonly iat: number
  readonly exp: number
  readonly jti: string
  /** The id that the issuer gave the event: the same in every token of one logout, so that an RP's log can be matched with ours (RFC 8417 2.2). */
  readonly txn: string
  readonly sub?: string
  readonly sid?: string
  readonly events: { readonly [LOGOUT_EVENT_MEMBER]: Record<string, never> }
}

/** The claims of one attempt's token: new `jti` and `iat` each time, for RPs refuse what they saw or what is old. */
export function logoutTokenClaims(
  delivery: Pick<InFlightDelivery, 'sid' | 'event'>,
  to: Pick<Binding, 'clientId'> & Pick<BackchannelSettings, 'subject_claims' | 'session_required'>,
  { now, jti }: { now: Date; jti: string },
): LogoutTokenClaims {
  const iat = Math.floor(now.getTime() / 1_000)
  return {
    iss: delivery.event.iss,
    aud: to.clientId,
    iat,
    exp: iat + TOKEN_LIFETIME_S,
    jti,
    txn: delivery.event.givenId,
    ...subjectOf(delivery, to),
    events: { [LOGOUT_EVENT_MEMBER]: {} },
  }
}

/** Who is logged out, in the claims that this RP takes. At least one of the two is always there: what is missing is replaced, not left out. */
function subjectOf(
  { sid, event: { sub } }: Pick<InFlightDelivery, 'sid' | 'event'>,
  settings: Pick<BackchannelSettings, 'subject_claims' | 'session_required'>,
): { sub?: string; sid?: string } {
  if (sid === null) return sub === null ? {} : { sub }
  if (sub === null) return { sid }
  if (settings.subject_claims === 'both') return { sub, sid }
  return namesOf(settings).names === 'subject' ? { sub } : { sid }
}
