import { type DeadLetterReason, type DeadLetterWords, type LastAttempt, lastly } from '@curfew/domain'

const ADDRESS = 'curfew.channels.global_revocation.uri'
const AGAIN = 'register the relying party again'

/** The words of global token revocation for a dead letter; null where the general ones say it. */
export function explain(reason: DeadLetterReason, last: LastAttempt | null): DeadLetterWords | null {
  switch (reason) {
    case 'refused':
      return {
        what: `The relying party refused to revoke the user's tokens each time${lastly(last)}.`,
        fix: `${refusedFix(last?.status ?? null)} Then replay.`,
      }
    case 'misconfigured':
      return {
        what: `The endpoint answers as none for global token revocation does${lastly(last)}.`,
        fix: `${misconfiguredFix(last?.status ?? null)} Then replay.`,
      }
    case 'endpoint_gone':
      return {
        what: 'The endpoint answered 410 Gone, which says that it will not come back; it was disabled.',
        fix: `With the right ${ADDRESS}, ${AGAIN}, which enables it. Then replay.`,
      }
    case 'client_removed':
      return {
        what: 'The relying party is registered no more, or has no endpoint for global token revocation any more.',
        fix: `If it still has sessions, ${AGAIN} with ${ADDRESS}, then replay. Otherwise nothing is left to do.`,
      }
    case 'email_required':
      return {
        what: 'The relying party knows its users by their email address, and the logout event came without one.',
        fix: 'Have the identity provider post the email with its logouts, or set curfew.channels.global_revocation.subject to iss_sub if the relying party knows its users by iss and sub. A replay cannot add an email: post the logout again with a new id.',
      }
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
