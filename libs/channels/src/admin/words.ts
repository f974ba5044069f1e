import type { ChannelNames, DeadLetterReason, LastAttempt } from '@curfew/domain'
import type { RegisteredAt } from '../channel.ts'
import { type Redirect, redirectFix } from '../redirect.ts'
import { TOKEN_ENDPOINT } from './token.ts'

const OWN = 'curfew.channels.admin'
/** See `Channel.channelNames`. */
export const CHANNEL_NAMES: ChannelNames = { protocol: 'the admin API', address: OWN }

/** See `Channel.deadLetterFix`. */
export function deadLetterFix(
  reason: DeadLetterReason,
  last: LastAttempt | null,
  endpoint: RegisteredAt<object> | null,
): string | null {
  switch (reason) {
    case 'refused':
    case 'misconfigured': {
      const redirect = { uri: endpoint?.uri ?? null, location: last?.location ?? null }
      const isToken = last?.errorDescription?.startsWith(TOKEN_ENDPOINT) === true
      return `${isToken ? TOKEN_FIX : requestFix(last?.status ?? null, redirect)} Then replay.`
    }
    case 'sid_required':
      return `Have the identity provider post the sid of the session with its logouts, or register requests for ${OWN}.subject. A sid that could lead to another path is never sent.`
    case 'sub_required':
      return 'Have the identity provider post the sub that its admin API knows the user by, then post the logout again with a new id: a replay cannot add the sub. A sub that could lead to another path is never sent.'
    case 'email_required':
      return `Have the identity provider post the email with its logouts, or name the user by {sub} in ${OWN}. A replay cannot add an email, so post the logout again with a new id.`
    case 'widen_required':
      return `Register requests for ${OWN}.session, post a logout of the subject, or set ${OWN}.widen to true. Then replay.`
    default:
      return null
  }
}

/** How to correct a token endpoint that gives no token. */
export const TOKEN_FIX = `Check client_id, token_endpoint, method, scope and audience of ${OWN}.auth, and register the secret of that client. Check that the client may use the grant client_credentials.`

/** How to correct a request that is answered with a status that is not a success. */
export function requestFix(status: number | null, redirect: Redirect): string {
  if (status === 401) return `Register a credential that the API accepts: the secret and ${OWN}.auth.`
  if (status === 403)
    return 'Give the credential the right to end sessions: the role manage-users of realm-management in Keycloak, delete:sessions and delete:refresh_tokens in Auth0, User.RevokeSessions.All in Graph.'
  if (status === 404 || status === 410)
    return `Check the address in ${OWN}. If ${status} says that the session or the user is unknown, add it to success.`
  if (status === 405) return `Check the method and the address of the request in ${OWN}.`
  if (status !== null && status >= 300 && status < 400) return redirectFix(redirect, OWN)
  if (status !== null && status >= 200 && status < 300)
    return `If ${status} means that the sessions are over, or will be, add it to success in ${OWN}.`
  return `Check that the API takes the sid or sub of the identity provider as it is, and the request in ${OWN}.`
}
