import type { ChannelNames, DeadLetterReason, LastAttempt } from '@curfew/domain'
import type { RegisteredAt } from '../channel.ts'
import { redirectFix } from '../redirect.ts'
import { type AdviceContext, isAboutCsrf, knownFix } from './known-answers.ts'
import type { BackchannelSettings } from './settings.ts'

const ADDRESS = 'backchannel_logout_uri'
/** See `Channel.channelNames`. */
export const CHANNEL_NAMES: ChannelNames = { protocol: 'back-channel logout', address: ADDRESS }

type Endpoint = RegisteredAt<BackchannelSettings>

/** See `Channel.deadLetterFix`. */
export function deadLetterFix(
  reason: DeadLetterReason,
  last: LastAttempt | null,
  endpoint: Endpoint | null,
): string | null {
  const known = last === null ? null : knownFix(last, contextOf(endpoint))
  switch (reason) {
    case 'refused':
      return known === null
        ? "Look for the token's jti in its log. Frequent reasons are an old copy of the issuer's keys, a wrong clock, or another" +
            ' expected issuer, audience or algorithm. Correct the reason, then replay.'
        : `${known} Then replay.`
    case 'misconfigured':
      return `${last === null ? UNKNOWN_STATUS : misconfiguredFix(last, endpoint)} Then replay.`
    case 'attempts_exhausted':
    case 'unreachable':
      return known === null ? null : `${known} Then replay.`
    case 'sid_required':
      return (
        'Have the identity provider post one logout for each session, with its sid. Or, if the relying party can end all' +
        ' sessions of a subject, register it with backchannel_logout_session_required false, then replay.'
      )
    default:
      return null
  }
}

function contextOf(endpoint: Endpoint | null): AdviceContext {
  const { algorithm = null, token_type: tokenType = null } = endpoint?.settings ?? {}
  return { algorithm, tokenType }
}

const EXEMPT =
  'Allow calls of the endpoint without a login, cookie or CSRF token, also in a firewall before it. The logout token authenticates the call.'
const UNKNOWN_STATUS =
  'Check that backchannel_logout_uri is the endpoint for back-channel logout, and that it answers 200 or 204.'

/** How to correct an endpoint that answers with a status that the specification does not have. */
export function misconfiguredFix(
  last: Pick<LastAttempt, 'status' | 'error' | 'errorDescription' | 'location'>,
  endpoint: Endpoint | null,
): string {
  const { status, location = null } = last
  if (isAboutCsrf(last))
    return 'Exclude the endpoint from CSRF protection, because the call has no cookie and no form of the application. The logout token authenticates it.'
  const known = knownFix(last, contextOf(endpoint))
  if (known !== null) return known
  if (status === 401 || status === 403) return EXEMPT
  if (status !== null && status >= 300 && status < 400)
    return redirectFix({ uri: endpoint?.uri ?? null, location }, ADDRESS)
  if (status === 404)
    return 'Register the right backchannel_logout_uri, or deploy the endpoint at the registered address.'
  if (status === 405)
    return 'Make the endpoint accept POST. If it is another page of the relying party, register the right backchannel_logout_uri.'
  if (status === 415)
    return 'Make the endpoint accept a body of application/x-www-form-urlencoded, also with a charset.'
  // Laravel answers 419 without a CSRF token.
  if (status === 419) return EXEMPT
  return UNKNOWN_STATUS
}
