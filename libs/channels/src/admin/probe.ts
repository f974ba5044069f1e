import { type Answer, errorTextOf, NETWORK } from '@curfew/domain'
import type { ProbeTarget, ProbeTools } from '../channel.ts'
import { withoutCredential } from '../credential.ts'
import { inWords, isBusy, type ProbeCheck, type ProbeReport } from '../probe-report.ts'
import { isUnknown, type Kind, messageOf, withCredential } from './request.ts'
import type { AdminRequest, AdminSettings } from './settings.ts'
import type { Values } from './template.ts'
import { fetchToken } from './token.ts'
import { requestFix, TOKEN_FIX } from './words.ts'

type Target = ProbeTarget<AdminSettings>
type Finding = Pick<ProbeCheck, 'result' | 'what' | 'fix'>

/** An access token, three requests for a session, three for the subject, and one without a credential. */
export const PROBE_REQUESTS_MAX = 8
/** The probe starts requests for this time, in milliseconds. */
const PROBE_MS_MAX = 45_000
/** The limit for one request, in milliseconds. */
const REQUEST_MS_MAX = 10_000

/** The answer to one request of the probe. */
interface Seen {
  readonly answer: Answer
  readonly durationMs: number
}

const NOT_SENT: Finding = { result: 'unknown', what: 'It was not sent.', fix: null }

/** Sends each registered request for a session and a user that do not exist, one after the other. See `Probe`. */
export async function runProbe(target: Target, tools: ProbeTools): Promise<ProbeReport & { sent: number }> {
  const { settings } = target
  const [first] = [...settings.session, ...settings.subject]
  if (first === undefined || URL.parse(first.uri)?.origin !== target.uri)
    return { checks: [UNREGISTERED], suggestions: [], sent: 0 }
  const endsAtMs = performance.now() + PROBE_MS_MAX
  const id = tools.newId()
  const values = { sid: id, sub: id, email: `curfew-probe-${id}@curfew.invalid` }
  let sent = 0
  /** Null after the time of the probe. */
  const timed = async (send: () => Promise<Answer>): Promise<Seen | null> => {
    if (performance.now() > endsAtMs) return null
    const startedMs = performance.now()
    const answer = await send()
    tools.onProgress(++sent)
    return { answer, durationMs: Math.round(performance.now() - startedMs) }
  }

  const checks: ProbeCheck[] = []
  const { credential, seen } = await credentialOf(target, tools, timed)
  if (settings.auth?.token) checks.push(tokenCheck(seen, credential))
  const lacksToken = settings.auth !== null && credential === null
  const ask = (request: AdminRequest, key: string | null) =>
    timed(() => send(request, { values, key, target, tools }))
  const without = settings.auth === null || lacksToken ? null : await ask(first, null)
  for (const kind of ['session', 'subject'] as const) {
    for (const [index, request] of settings[kind].entries()) {
      const answer = lacksToken ? null : await ask(request, credential)
      const { session, subject } = settings
      const number = (kind === 'session' ? session : subject).length > 1 ? ` (request ${index + 1})` : ''
      checks.push({
        ...{ id: `${kind}_${index + 1}`, title: `${TITLES[kind]}${number}`, level: 'must', section: SECTION },
        ...judge(request, answer, { target, asks: asksForCredential(without) }),
        ...measured(answer),
      })
    }
  }
  if (settings.auth !== null)
    checks.push({
      ...{ id: 'no_credential', title: 'refuses a request without a credential', level: 'must' },
      ...{ section: 'RFC 9110 15.5.2', ...judgeWithout(without), ...measured(without) },
    })
  return { checks, suggestions: [], sent }
}

const SECTION = 'the documentation of the API'
const TITLES: Readonly<Record<Kind, string>> = {
  session: 'accepts the request that ends a session',
  subject: 'accepts the request that ends all sessions of a user',
}

const UNREGISTERED: ProbeCheck = {
  ...{ id: 'registered', title: 'is registered', level: 'informs', section: SECTION, result: 'unknown' },
  what: 'Nothing was sent: the requests of this channel belong to its registration.',
  fix: 'Register curfew.channels.admin, then probe the relying party without an address.',
  ...{ status: null, durationMs: null },
}

/** The credential of the requests; null without one. `seen` is the answer of the token endpoint, if that was asked. */
async function credentialOf(
  { settings: { auth }, timeoutMs }: Target,
  tools: ProbeTools,
  timed: (send: () => Promise<Answer>) => Promise<Seen | null>,
): Promise<{ readonly credential: string | null; readonly seen: Seen | null }> {
  if (auth === null) return { credential: null, seen: null }
  const { token: request } = auth
  if (request === null) return { credential: await tools.secret(), seen: null }
  let credential: string | null = null
  const seen = await timed(async () => {
    const fetched = await fetchToken(request, {
      now: () => new Date(),
      secret: tools.secret,
      send: (message) => tools.http.send({ ...message, timeoutMs: Math.min(timeoutMs, REQUEST_MS_MAX) }),
    })
    if ('outcome' in fetched) return fetched.answer
    credential = fetched.token
    // The token itself is not a part of the report.
    return { kind: 'response', status: 200, retryAfter: null, body: '' }
  })
  return { credential, seen }
}

async function send(
  request: AdminRequest,
  {
    values,
    key,
    target,
    tools,
  }: {
    readonly values: Values
    readonly key: string | null
    readonly target: Target
    readonly tools: ProbeTools
  },
): Promise<Answer> {
  const { auth } = target.settings
  const message = messageOf(request, values)
  const timeoutMs = Math.min(target.timeoutMs, REQUEST_MS_MAX)
  const authorized = auth === null || key === null ? message : withCredential(message, auth, key)
  return withoutCredential(await tools.http.send({ ...authorized, timeoutMs }), key)
}

function measured(seen: Seen | null): Pick<ProbeCheck, 'status' | 'durationMs'> {
  return { status: statusOf(seen), durationMs: seen?.durationMs ?? null }
}

function statusOf(seen: Seen | null): number | null {
  return seen?.answer.kind === 'response' ? seen.answer.status : null
}

function tokenCheck(seen: Seen | null, credential: string | null): ProbeCheck {
  return {
    ...{ id: 'token', title: 'gives an access token to the client', level: 'must', section: 'RFC 6749 4.4' },
    ...(seen === null
      ? NOT_SENT
      : credential === null
        ? {
            result: 'failed',
            what: `The token endpoint gives no token: it ${inWords(seen.answer)}.`,
            fix: TOKEN_FIX,
          }
        : { result: 'passed', what: 'The token endpoint gives an access token.', fix: null }),
    ...measured(seen),
  }
}

/** Whether the API answers 401 or 403 without a credential. An address without an endpoint answers 404 to everything. */
function asksForCredential(without: Seen | null): boolean {
  const status = statusOf(without)
  return status === 401 || status === 403
}

function judge(
  { success }: AdminRequest,
  seen: Seen | null,
  { target: { uri }, asks }: { readonly target: Target; readonly asks: boolean },
): Finding {
  if (seen === null) return NOT_SENT
  const { answer } = seen
  const what = `It ${inWords(answer)}.`
  if (answer.kind !== 'response') {
    const fix = answer.kind === 'failure' ? NETWORK[answer.failure]?.fix : undefined
    return { result: 'failed', what, fix: fix ?? 'Check that the API answers at the registered address.' }
  }
  if (isBusy(answer.status)) return { result: 'unknown', what, fix: null }
  if (!success.includes(answer.status)) {
    const location = errorTextOf(answer).location ?? null
    return { result: 'failed', what, fix: requestFix(answer.status, { uri, location }) }
  }
  if (isUnknown(answer.status) && !asks)
    return { result: 'unknown', what: `${what} An address without an endpoint answers the same.`, fix: null }
  return { result: 'passed', what, fix: null }
}

function judgeWithout(seen: Seen | null): Finding {
  if (seen === null) return NOT_SENT
  const what = `It ${inWords(seen.answer)}.`
  if (asksForCredential(seen)) return { result: 'passed', what, fix: null }
  const status = statusOf(seen)
  if (status === null || status < 200 || status >= 300) return { result: 'unknown', what, fix: null }
  return {
    result: 'failed',
    what: `A request without a credential is accepted: anyone who reaches the API can end the sessions of any user. ${what}`,
    fix: 'Make the API ask for the credential, or let only Curfew reach it.',
  }
}
