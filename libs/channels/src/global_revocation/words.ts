import type { ChannelNames, DeadLetterReason, LastAttempt } from '@curfew/domain'

const ADDRESS = 'curfew.channels.global_revocation.uri'
export const CALLED: ChannelNames = { protocol: 'global token revocation', address: ADDRESS }

/** See `Channel.mend`. */
export function mend(reason: DeadLetterReason, last: LastAttempt | null): string | null {
  switch (reason) {
    case 'refused':
      return `${refusedFix(last?.status ?? null)} Then replay.`
    case 'misconfigured':
      return `${misconfiguredFix(last?.status ?? null)} Then replay.`
    case 'email_required':
      return 'Have the identity provider post the email with its logouts, or set curfew.channels.global_revocation.subject to iss_sub if the relying party knows its users by iss and sub. A replay cannot add an email: post the logout again with a new id.'
    default:
      return null
  }
}

function refusedFix(status: number | null): string {
  return status === 422
    ? 'The relying party cannot log this user out: find in its log why.'
    : "See that it knows the form of the user's name: curfew.channels.global_revocation.subject and .member say how it is sent."
}

/** What mends an endpoint that answers with a status which none for global token revocation has. */
export function misconfiguredFix(status: number | null): string {
  if (status === 401)
    return "Let it verify the credential with the issuer's keys, for its own address as aud; or register its bearer token as the secret."
  if (status === 403) return 'Give the credential the right to revoke tokens there.'
  if (status !== null && status >= 300 && status < 400)
    return `Register the address that it redirects to as ${ADDRESS}: redirects are not followed.`
  if (status === 404) return `Register the right ${ADDRESS}, or deploy the endpoint there.`
  if (status === 405 || status === 415) return 'Make the endpoint take a POST of application/json.'
  if (status !== null && status >= 200 && status < 300)
    return 'If that status says that the revocation has begun, add it to curfew.channels.global_revocation.success.'
  return `See that ${ADDRESS} is the endpoint for global token revocation, and that it answers 204.`
}
