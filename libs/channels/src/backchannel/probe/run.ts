import { setTimeout as sleep } from 'node:timers/promises'
import type { Answer, ClientId, GivenEventId, Issuer, Sid, Subject } from '@curfew/domain'
import type { ProbeTarget, ProbeTools } from '../../channel.ts'
import { inWords, isBusy, type ProbeReport, signerFailure } from '../../probe-report.ts'
import { type ProbedSession, type SessionAnswer, sessionCheck } from '../../probe-session.ts'
import { type BackchannelSettings, TOKEN_TYPES, type TokenType, toEncryption, typOf } from '../settings.ts'
import { logoutTokenClaims } from '../token.ts'
import {
  acceptedSubject,
  accepts,
  type ProbeFacts,
  probeGoesOn,
  saysEnded,
  TYPE_REQUESTS,
  verdictOf,
} from './facts.ts'
import { probeReport } from './report.ts'
import {
  PROBE_REQUEST_IDS,
  type ProbeAnswer,
  type ProbeForm,
  type ProbeRequestId,
  type ProbeSubject,
  probeClaims,
  probeRequest,
} from './requests.ts'

/** The number of characters that make a body too large. */
const OVERSIZE = 1024 * 1024
const FORM = 'application/x-www-form-urlencoded'

/** Sends a token in one of the forms. @param second another good token for a form with two tokens. */
function sendProbe(
  http: ProbeTools['http'],
  {
    uri,
    form,
    token,
    second,
    timeoutMs,
  }: {
    readonly uri: string
    readonly form: ProbeForm
    readonly token: string
    readonly second: string | null
    readonly timeoutMs: number
  },
): Promise<Answer> {
  const headers = { accept: 'application/json', 'user-agent': 'curfew' }
  const post = (body: string, type = FORM) =>
    http.post({ uri, timeoutMs, headers: { ...headers, 'content-type': type }, body })
  const field = `logout_token=${token}`
  switch (form) {
    case 'form':
    case 'repeated':
      return post(field)
    case 'with_charset':
      return post(field, `${FORM}; charset=utf-8`)
    case 'with_another_field':
      return post(`${field}&curfew_probe=ignored`)
    case 'twice_in_one_form':
      return post(`${field}&logout_token=${second ?? token}`)
    case 'json':
      return post(JSON.stringify({ logout_token: token }), 'application/json')
    case 'query':
      return http.get({ timeoutMs, headers, uri: `${uri}${uri.includes('?') ? '&' : '?'}${field}` })
    case 'oversize':
      // Only the signature is too long, so a receiver that reads just the beginning finds no fault.
      return post(`${field}${'A'.repeat(OVERSIZE)}`)
    case 'no_jwt':
      return post('logout_token=curfew-probe')
    case 'without_token':
      return post('curfew_probe=ignored')
    case 'empty':
      return post('')
  }
}

/**
 * The probe starts requests for this time, in milliseconds. Together with the last request it takes less time than a proxy before
 * Curfew may wait.
 */
const PROBE_MS_MAX = 45_000
/** The limit for one request, in milliseconds. */
const REQUEST_MS_MAX = 10_000
/** Pauses before the good token is sent again to a busy endpoint, which may be in a deployment, in milliseconds. */
const PAUSES_MS = [300, 1_000]
/** Number of concurrent requests. It is small, because the endpoint may be a small service that is in use. */
const CONCURRENCY = 2
/**
 * With the good token these show which good tokens the endpoint accepts. All later requests change one thing of an accepted
 * token.
 */
const ALONE = ['sid_only', 'sub_only'] as const satisfies readonly ProbeRequestId[]

/** The good tokens of the requests: their claims and their `typ`, unless a request changes them. */
interface Good {
  readonly subject: ProbeSubject
  readonly tokenType: TokenType
}

/** See `Probe`. */
export async function runProbe(
  target: ProbeTarget<BackchannelSettings>,
  tools: ProbeTools,
): Promise<ProbeReport & { sent: number }> {
  const endsAtMs = performance.now() + PROBE_MS_MAX
  const answers = new Map<ProbeRequestId, ProbeAnswer>()
  const { uri, settings, timeoutMs } = target
  const left = () => endsAtMs - performance.now()

  async function ask(id: ProbeRequestId, good: Good): Promise<void> {
    if (left() <= 0) return
    answers.set(id, await answerTo(id, target, { ...tools, ...good }))
    tools.onProgress(answers.size)
  }

  const registered: Good = { subject: 'both', tokenType: settings.token_type }
  await ask('good_token', registered)
  for (const pauseMs of PAUSES_MS) {
    const answer = answers.get('good_token')
    if (answer?.kind !== 'response' || !isBusy(answer.status)) break
    await sleep(pauseMs)
    await ask('good_token', registered)
  }
  const first = answers.get('good_token')
  let tls: ProbeFacts['tls'] = null
  let { tokenType } = registered
  if (first !== undefined && probeGoesOn(first)) {
    for (const id of ALONE) await ask(id, registered)
    if (acceptedSubject({ answers, tokenType, settings }) === null)
      tokenType = await acceptedType(answers, { settings, ask })
    tls = await Promise.race([
      tools.http.inspectTls(target.uri),
      sleep(Math.max(0, left()), null, { ref: false }),
    ])
    const good = { subject: acceptedSubject({ answers, tokenType, settings }) ?? 'both', tokenType }
    const waiting = PROBE_REQUEST_IDS.filter((id) => !answers.has(id))
    const worker = async () => {
      for (let id = waiting.shift(); id !== undefined; id = waiting.shift()) await ask(id, good)
    }
    await Promise.all(Array.from({ length: CONCURRENCY }, worker))
  }
  const facts = { uri, settings, timeoutMs, answers, tokenType, tls, now: new Date() }
  const report = probeReport(facts)
  const { session } = target
  if (session === undefined || first === undefined || !probeGoesOn(first))
    return { ...report, sent: answers.size }
  const real = await answerForSession(session, target, tools)
  return {
    ...report,
    checks: [...report.checks, sessionCheck(real, 'unknown')],
    session: real,
    sent: answers.size + 1,
  }
}

/**
 * Asks with each other `typ`, after all good tokens with the registered one were refused. The answers to `sid_only` and `sub_only`
 * are then those of the accepted `typ`.
 *
 * @returns the accepted `typ`; the registered one if none is.
 */
async function acceptedType(
  answers: Map<ProbeRequestId, ProbeAnswer>,
  {
    settings,
    ask,
  }: {
    readonly settings: BackchannelSettings
    ask(id: ProbeRequestId, good: Good): Promise<void>
  },
): Promise<TokenType> {
  const registered = ALONE.map((id) => [id, answers.get(id)] as const)
  for (const tokenType of TOKEN_TYPES) {
    if (tokenType === settings.token_type) continue
    for (const id of [TYPE_REQUESTS[tokenType], ...ALONE]) await ask(id, { subject: 'both', tokenType })
    if (acceptedSubject({ answers, tokenType, settings }) !== null) return tokenType
  }
  for (const [id, answer] of registered) if (answer !== undefined) answers.set(id, answer)
  return settings.token_type
}

/** Sends one token for a real session, as a delivery would. */
async function answerForSession(
  { sub, sid }: ProbedSession,
  { uri, iss, clientId, settings, timeoutMs }: ProbeTarget<BackchannelSettings>,
  { http, forge, encrypt, newId }: ProbeTools,
): Promise<SessionAnswer> {
  const jti = newId()
  const now = new Date()
  const event = {
    ...{
      iss: iss as Issuer,
      sub: sub as Subject | null,

      givenId: jti as GivenEventId,

      acceptedAt: now,
    },
    ...{ scope: sid === null ? ('subject' as const) : ('session' as const), lane: 'interactive' as const },
    traceparent: null,
  }
  const to = { ...settings, clientId: clientId as ClientId }
  const claims = logoutTokenClaims({ sid: sid as Sid | null, event }, to, { now, jti })
  const typ = typOf(settings.token_type)
  const named = (['sub', 'sid'] as const).filter((name) => claims[name] !== undefined)
  const started = performance.now()
  let answer: Answer
  try {
    const signed = await forge(typ, { ...claims })
    const { encryption } = settings
    const token = encryption === null ? signed : await encrypt(typ, signed, toEncryption(encryption))
    const limitMs = Math.min(timeoutMs, REQUEST_MS_MAX)
    answer = await sendProbe(http, { uri, form: 'form', token, second: null, timeoutMs: limitMs })
  } catch (error) {
    answer = signerFailure(error)
  }
  const seen: ProbeAnswer = { ...answer, durationMs: Math.round(performance.now() - started) }
  return {
    ...{
      named,
      jti,
      durationMs: seen.durationMs,
      answer: inWords(answer),
      meaning: meaningOf(seen, settings),
    },
    status: answer.kind === 'response' ? answer.status : null,
  }
}

function meaningOf(answer: ProbeAnswer, settings: BackchannelSettings): SessionAnswer['meaning'] {
  if (verdictOf(answer) === 'silent') return 'silent'
  if (!accepts(answer, settings)) return 'refused'
  return saysEnded(answer, settings) ? 'already_ended' : 'acknowledged'
}

async function answerTo(
  id: ProbeRequestId,
  target: ProbeTarget<BackchannelSettings>,
  { http, forge, encrypt, newId, subject, tokenType }: ProbeTools & Good,
): Promise<ProbeAnswer> {
  const { claims = (good) => good, header, signature, form = 'form' } = probeRequest(id)
  const typ = header?.typ === undefined ? typOf(tokenType) : header.typ
  const forged = () => {
    const { iss, clientId: aud } = target
    const good = probeClaims({ iss, aud, now: new Date(), id: newId(), jti: newId(), subject })
    return forge(typ, claims(good), { header, signature })
  }
  const { encryption } = target.settings
  const encrypted = (token: string) =>
    encryption === null ? token : encrypt(typ, token, toEncryption(encryption))
  let tokens: readonly string[]
  try {
    tokens = [await forged(), ...(form === 'twice_in_one_form' ? [await forged()] : [])]
  } catch (error) {
    return { ...signerFailure(error), durationMs: 0 }
  }
  const [token = '', second = null] = await Promise.all(tokens.map(encrypted))
  const timeoutMs = Math.min(target.timeoutMs, REQUEST_MS_MAX)
  const send = () => sendProbe(http, { uri: target.uri, form, token, second, timeoutMs })
  if (form === 'repeated') await send()
  const started = performance.now()
  const answer = await send()
  return { ...answer, durationMs: Math.round(performance.now() - started) }
}
