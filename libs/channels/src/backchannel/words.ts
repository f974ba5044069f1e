import { type DeadLetterReason, type DeadLetterWords, type LastAttempt, lastly } from '@curfew/domain'

const AGAIN = 'register the relying party again'

/** The words of back-channel logout for a dead letter; null where the general ones say it. */
export function explain(reason: DeadLetterReason, last: LastAttempt | null): DeadLetterWords | null {
  switch (reason) {
    case 'refused':
      return {
        what: `The relying party refused the logout token, or failed to log out, each time${lastly(last)}.`,
        fix:
          "Look at its log for the token's jti. Mostly its copy of the issuer's keys is old, its clock is off, or it expects" +
          ' another issuer, audience or algorithm. Mend that, then replay.',
      }
    case 'misconfigured':
      return {
        what: `The endpoint answers as none for back-channel logout does${lastly(last)}.`,
        fix: `${misconfiguredFix(last?.status ?? null)} Then replay.`,
      }
    case 'endpoint_gone':
      return {
        what: 'The endpoint answered 410 Gone, which says that it will not come back; it was disabled.',
        fix: `With the right backchannel_logout_uri, ${AGAIN}, which enables it. Then replay.`,
      }
    case 'client_removed':
      return {
        what: 'The relying party is registered no more, or has no logout endpoint any more.',
        fix: `If it still has sessions, ${AGAIN} with its backchannel_logout_uri, then replay. Otherwise nothing is left to do.`,
      }
    case 'sid_required':
      return {
        what: 'The relying party must be told the session (sid), and the logout event named none.',
        fix:
          'Have the identity provider post a logout with the sid, for each session; or register the relying party with' +
          ' backchannel_logout_session_required false if it can end all sessions of a subject, then replay.',
      }
    default:
      return null
  }
}

/** What mends an endpoint that answers with a status which none for back-channel logout has. */
export function misconfiguredFix(status: number | null): string {
  if (status === 401 || status === 403) {
    return 'Let the endpoint be called without a login, cookie or CSRF token, also by a firewall before it: the logout token is what vouches for the call.'
  }
  if (status !== null && status >= 300 && status < 400) {
    return 'Register the address that it redirects to as backchannel_logout_uri: redirects are not followed.'
  }
  if (status === 404) return 'Register the right backchannel_logout_uri, or deploy the endpoint there.'
  if (status === 405 || status === 415) {
    return 'Make the endpoint take a POST of application/x-www-form-urlencoded.'
  }
  return 'See that backchannel_logout_uri is the endpoint for back-channel logout, and that it answers 200 or 204.'
}
