import type { AttemptOutcome } from '@curfew/domain'
import type { Job, PushChannel, Tools } from '../channel.ts'
import { withoutCredential } from '../credential.ts'
import { PROBE_REQUESTS_MAX, runProbe } from './probe.ts'
import { readRegistration } from './registration.ts'
import {
  isUnknown,
  type Message,
  messageOf,
  outcomeOf,
  requestsFor,
  textsOf,
  withCredential,
} from './request.ts'
import { AdminSettings, type Auth, namesOf, registration, secretPlaces } from './settings.ts'
import { lacking, valuesOf } from './template.ts'
import { createTokens, type TokenOf } from './token.ts'
import { CHANNEL_NAMES, deadLetterFix } from './words.ts'

/**
 * Calls to the admin API of an identity provider or relying party, as the registration declares them. They end sessions and tokens
 * where these were issued.
 *
 * @param tokenOf keeps the access tokens of one worker.
 */
export function createAdmin(tokenOf: TokenOf): PushChannel<AdminSettings> {
  return {
    kind: 'admin',
    mode: 'push',
    step: 'revoke',
    best: 'done',
    registration,
    settings: AdminSettings,
    endpoints: readRegistration,
    names: namesOf,
    secretPlaces,
    channelNames: CHANNEL_NAMES,
    deadLetterFix,
    async send(job, tools) {
      const { delivery, settings } = job
      const { requests, kind } = requestsFor(delivery.sid, settings)
      const values = valuesOf(delivery)
      const lacks = lacking(requests.flatMap(textsOf), values)
      if (lacks !== null)
        return { outcome: { kind: 'undeliverable', ...lacks }, jti: null, tokenDigest: null }
      const statuses: number[] = []
      for (const request of requests) {
        const called = await call(job, messageOf(request, values), tools, tokenOf)
        if ('outcome' in called) return { outcome: called.outcome, jti: null, tokenDigest: null }
        const { answer } = called
        const failure = outcomeOf(answer, request.success, tools.now())
        if (failure !== null) return { outcome: failure, jti: tools.newId(), tokenDigest: null }
        if (answer.kind === 'response') statuses.push(answer.status)
      }
      return { outcome: acknowledged(statuses, kind, settings), jti: tools.newId(), tokenDigest: null }
    },
    probe: { namesSessions: false, total: PROBE_REQUESTS_MAX, run: runProbe },
  }
}

/** The admin channel of this process. */
export const admin: PushChannel<AdminSettings> = createAdmin(createTokens())

function acknowledged(
  statuses: readonly number[],
  kind: 'session' | 'subject',
  { level }: Pick<AdminSettings, 'level'>,
): AttemptOutcome {
  const note = statuses.every(isUnknown) ? (kind === 'session' ? 'unknown_session' : 'unknown_user') : null
  return { kind: 'acknowledged', level, status: statuses.at(-1) ?? null, ...(note !== null && { note }) }
}

type Called =
  | { readonly answer: Awaited<ReturnType<Tools['http']['send']>> }
  | { readonly outcome: AttemptOutcome }

/** Sends one request with its credential. A 401 for an access token from memory is answered by one with a new token. */
async function call(
  { binding, settings: { auth } }: Pick<Job<AdminSettings>, 'binding' | 'settings'>,
  message: Message,
  tools: Tools,
  tokenOf: TokenOf,
): Promise<Called> {
  if (auth === null) return { answer: await tools.http.send(message) }
  const { token: request } = auth
  if (request === null) return sent(message, auth, await tools.secret(), tools)
  const tokenTools = { now: tools.now, secret: tools.secret, send: tools.http.send }
  const first = await tokenOf(binding, request, tokenTools, null)
  if ('outcome' in first) return first
  const called = await sent(message, auth, first.token, tools)
  if (first.fresh || called.answer.kind !== 'response' || called.answer.status !== 401) return called
  const second = await tokenOf(binding, request, tokenTools, first.token)
  return 'outcome' in second ? second : sent(message, auth, second.token, tools)
}

async function sent(message: Message, auth: Auth, credential: string, tools: Pick<Tools, 'http'>) {
  const answer = await tools.http.send(withCredential(message, auth, credential))
  return { answer: withoutCredential(answer, credential) }
}
