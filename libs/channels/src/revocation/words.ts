import type { ChannelNames, DeadLetterReason, LastAttempt } from '@curfew/domain'
import type { RegisteredAt } from '../channel.ts'
import { type Redirect, redirectFix } from '../redirect.ts'
import { UNSUPPORTED } from './answer.ts'

const OWN = 'curfew.channels.revocation'
const ADDRESS = `${OWN}.revocation_endpoint`
/** See `Channel.channelNames`. */
export const CHANNEL_NAMES: ChannelNames = { protocol: 'token revocation', address: ADDRESS }

/** See `Channel.deadLetterFix`. */
export function deadLetterFix(
  reason: DeadLetterReason,
  last: LastAttempt | null,
  endpoint: RegisteredAt<object> | null,
): string | null {
  if (reason === 'secret_unreadable')
    return `Register the secret again: the secret of the client, or with the method private_key_jwt its private JWK. Or give the workers the CURFEW_MASTER_KEY with which the secret was stored. Then replay.`
  if (reason !== 'misconfigured') return null
  const redirect = { uri: endpoint?.uri ?? null, location: last?.location ?? null }
  return `${requestFix(last, redirect)} Then replay.`
}

/** How to correct an endpoint that does not answer 200. */
export function requestFix(last: Pick<LastAttempt, 'status' | 'error'> | null, redirect: Redirect): string {
  const status = last?.status ?? null
  if (last?.error === UNSUPPORTED)
    return `Post refresh tokens with the sessions: the authorization server does not revoke the posted kind.`
  if (status === 401 || last?.error === 'invalid_client')
    return `Register the right credential of the client: client_id, method and secret of ${OWN}.`
  if (status === 400 || status === 403)
    return `Let the client of ${OWN} revoke these tokens. An authorization server lets a client revoke its own tokens only, unless it is configured otherwise.`
  if (status !== null && status >= 300 && status < 400) return redirectFix(redirect, ADDRESS)
  return `Check that ${ADDRESS} is the revocation_endpoint of the authorization server, and that it answers 200.`
}
