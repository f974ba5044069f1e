import type { ChannelNames, DeadLetterReason, LastAttempt } from '@curfew/domain'
import type { RegisteredAt } from '../channel.ts'
import { type Redirect, redirectFix } from '../redirect.ts'

const ADDRESS = 'curfew.channels.global_revocation.uri'
/** See `Channel.channelNames`. */
export const CHANNEL_NAMES: ChannelNames = { protocol: 'global token revocation', address: ADDRESS }

/** See `Channel.deadLetterFix`. */
export function deadLetterFix(
  reason: DeadLetterReason,
  last: LastAttempt | null,
  endpoint: RegisteredAt<object> | null,
): string | null {
  switch (reason) {
    case 'refused':
      return `${refusedFix(last?.status ?? null)} Then replay.`
    case 'misconfigured':
      return `${misconfiguredFix(last?.status ?? null, { uri: endpoint?.uri ?? null, location: last?.location ?? null })} Then replay.`
    case 'email_required':
      return 'Have the identity provider post the email with its logouts. Or, if the relying party identifies its users by iss and sub, set curfew.channels.global_revocation.subject to iss_sub. A replay cannot add an email, so post the logout again with a new id.'
    default:
      return null
  }
}

function refusedFix(status: number | null): string {
  return status === 422
    ? 'The relying party cannot log this user out. Find the reason in its log.'
    : "Check that it accepts the format of the user's identifier. curfew.channels.global_revocation.subject and .member set the format."
}

/** How to correct an endpoint that answers with a status that the draft does not have. */
export function misconfiguredFix(status: number | null, redirect: Redirect): string {
  if (status === 401)
    return "Make it verify the credential with the issuer's keys, with its own address as aud. Or register its bearer token as the secret."
  if (status === 403) return 'Give the credential the right to revoke tokens at the relying party.'
  if (status !== null && status >= 300 && status < 400) return redirectFix(redirect, ADDRESS)
  if (status === 404)
    return `Register the right ${ADDRESS}, or deploy the endpoint at the registered address.`
  if (status === 405 || status === 415) return 'Make the endpoint accept a POST of application/json.'
  if (status !== null && status >= 200 && status < 300)
    return 'If that status means that the revocation has begun, add it to curfew.channels.global_revocation.success.'
  return `Check that ${ADDRESS} is the endpoint for global token revocation, and that it answers 204.`
}
