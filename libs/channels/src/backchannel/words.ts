import type { ChannelNames, DeadLetterReason, LastAttempt } from '@curfew/domain'

/** See `Channel.channelNames`. */
export const CHANNEL_NAMES: ChannelNames = {
  protocol: 'back-channel logout',
  address: 'backchannel_logout_uri',
}

/** See `Channel.deadLetterFix`. */
export function deadLetterFix(reason: DeadLetterReason, last: LastAttempt | null): string | null {
  switch (reason) {
    case 'refused':
      return (
        "Look for the token's jti in its log. Frequent reasons are an old copy of the issuer's keys, a wrong clock, or another" +
        ' expected issuer, audience or algorithm. Correct the reason, then replay.'
      )
    case 'misconfigured':
      return `${misconfiguredFix(last?.status ?? null)} Then replay.`
    case 'sid_required':
      return (
        'Have the identity provider post one logout for each session, with its sid. Or, if the relying party can end all' +
        ' sessions of a subject, register it with backchannel_logout_session_required false, then replay.'
      )
    default:
      return null
  }
}

/** How to correct an endpoint that answers with a status that the specification does not have. */
export function misconfiguredFix(status: number | null): string {
  if (status === 401 || status === 403) {
    return 'Allow calls of the endpoint without a login, cookie or CSRF token, also in a firewall before it. The logout token authenticates the call.'
  }
  if (status !== null && status >= 300 && status < 400) {
    return 'Register the target of the redirect as backchannel_logout_uri: redirects are not followed.'
  }
  if (status === 404)
    return 'Register the right backchannel_logout_uri, or deploy the endpoint at the registered address.'
  if (status === 405 || status === 415) {
    return 'Make the endpoint accept a POST of application/x-www-form-urlencoded.'
  }
  return 'Check that backchannel_logout_uri is the endpoint for back-channel logout, and that it answers 200 or 204.'
}
