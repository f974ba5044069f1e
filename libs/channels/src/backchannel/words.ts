import type { ChannelNames, DeadLetterReason, LastAttempt } from '@curfew/domain'

export const CALLED: ChannelNames = { protocol: 'back-channel logout', address: 'backchannel_logout_uri' }

/** See `Channel.mend`. */
export function mend(reason: DeadLetterReason, last: LastAttempt | null): string | null {
  switch (reason) {
    case 'refused':
      return (
        "Look at its log for the token's jti. Mostly its copy of the issuer's keys is old, its clock is off, or it expects" +
        ' another issuer, audience or algorithm. Mend that, then replay.'
      )
    case 'misconfigured':
      return `${misconfiguredFix(last?.status ?? null)} Then replay.`
    case 'sid_required':
      return (
        'Have the identity provider post a logout with the sid, for each session; or register the relying party with' +
        ' backchannel_logout_session_required false if it can end all sessions of a subject, then replay.'
      )
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
