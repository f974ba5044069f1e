import { type Binding, type InFlightDelivery, TOKEN_LIFETIME_S } from '@curfew/domain'
import { type BackchannelSettings, namesOf } from './settings.ts'

/** The member of `events` that makes a JWT a logout token (Back-Channel Logout section 2.4). A literal name, never fetched. */
export const LOGOUT_EVENT_MEMBER = 'http://schemas.openid.net/event/backchannel-logout'
/** The `typ` of a logout token (Back-Channel Logout section 2.4). */
export const LOGOUT_TOKEN_TYPE = 'logout+jwt'

/** Claims of a logout token (Back-Channel Logout section 2.4). Times in seconds since 1970. `nonce` is prohibited. */
export interface LogoutTokenClaims {
  readonly iss: string
  readonly aud: string
  readonly iat: number
  readonly exp: number
  readonly jti: string
  /**
   * The IdP's own id of the logout if it gave one, or else the event id (RFC 8417 section 2.2). All tokens of a logout share it, so
   * an RP's log can be matched with Curfew's.
   */
  readonly txn: string
  readonly sub?: string
  readonly sid?: string
  readonly events: { readonly [LOGOUT_EVENT_MEMBER]: Record<string, never> }
}

/**
 * The claims of the token for one attempt. Each attempt has a new `jti` and `iat`, because RPs refuse repeated and old tokens.
 */
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
    txn: delivery.event.txn ?? delivery.event.givenId,
    ...subjectOf(delivery, to),
    events: { [LOGOUT_EVENT_MEMBER]: {} },
  }
}

/** Whether a delivery lacks the subject that the RP needs, because it takes nothing else or because the delivery names no session. */
export function lacksSubject(
  { sid, event: { sub } }: Pick<InFlightDelivery, 'sid' | 'event'>,
  settings: Pick<BackchannelSettings, 'subject_claims' | 'session_required'>,
): boolean {
  return sub === null && (sid === null || namesOf(settings).names === 'subject')
}

/** The claims that name the session or subject, as the RP's settings ask. If the `sid` is missing, the `sub` replaces it. */
function subjectOf(
  { sid, event: { sub } }: Pick<InFlightDelivery, 'sid' | 'event'>,
  settings: Pick<BackchannelSettings, 'subject_claims' | 'session_required'>,
): { sub?: string; sid?: string } {
  if (sid === null) return sub === null ? {} : { sub }
  if (sub === null) return { sid }
  if (settings.subject_claims === 'both') return { sub, sid }
  return namesOf(settings).names === 'subject' ? { sub } : { sid }
}
