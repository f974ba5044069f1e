import { setTimeout as sleep } from 'node:timers/promises'
import type { Answer } from '@curfew/domain'
import type { ProbeTarget, ProbeTools } from '../../channel.ts'
import { type ProbeReport, signerFailure } from '../../probe-report.ts'
import { type BackchannelSettings, toEncryption } from '../settings.ts'
import { LOGOUT_TOKEN_TYPE } from '../token.ts'
import { acceptedSubject, isNotNow, type ProbeFacts, probeGoesOn, probeReport } from './report.ts'
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

/** See `Probe`. */
export async function runProbe(
  target: ProbeTarget<BackchannelSettings>,
  tools: ProbeTools,
): Promise<ProbeReport & { sent: number }> {
  const endsAtMs = performance.now() + PROBE_MS_MAX
  const answers = new Map<ProbeRequestId, ProbeAnswer>()
  const left = () => endsAtMs - performance.now()

  async function ask(id: ProbeRequestId, subject: ProbeSubject): Promise<void> {
    if (left() <= 0) return
    answers.set(id, await answerTo(id, target, { ...tools, subject }))
    tools.onProgress(answers.size)
  }

  await ask('good_token', 'both')
  for (const pauseMs of PAUSES_MS) {
    const answer = answers.get('good_token')
    if (answer?.kind !== 'response' || !isNotNow(answer.status)) break
    await sleep(pauseMs)
    await ask('good_token', 'both')
  }
  const first = answers.get('good_token')
  let tls: ProbeFacts['tls'] = null
  if (first !== undefined && probeGoesOn(first)) {
    for (const id of ALONE) await ask(id, 'both')
    tls = await Promise.race([
      tools.http.inspectTls(target.uri),
      sleep(Math.max(0, left()), null, { ref: false }),
    ])
    const subject = acceptedSubject(answers)
    const waiting = PROBE_REQUEST_IDS.filter((id) => !answers.has(id))
    const worker = async () => {
      for (let id = waiting.shift(); id !== undefined; id = waiting.shift()) await ask(id, subject)
    }
    await Promise.all(Array.from({ length: CONCURRENCY }, worker))
  }
  const { uri, settings, timeoutMs } = target
  return { ...probeReport({ uri, settings, timeoutMs, answers, tls, now: new Date() }), sent: answers.size }
}

async function answerTo(
  id: ProbeRequestId,
  target: ProbeTarget<BackchannelSettings>,
  { http, forge, encrypt, newId, subject }: ProbeTools & { subject: ProbeSubject },
): Promise<ProbeAnswer> {
  const { claims = (good) => good, header, signature, form = 'form' } = probeRequest(id)
  const forged = () => {
    const { iss, clientId: aud } = target
    const good = probeClaims({ iss, aud, now: new Date(), id: newId(), jti: newId(), subject })
    return forge(LOGOUT_TOKEN_TYPE, claims(good), { header, signature })
  }
  const { encryption } = target.settings
  const encrypted = (token: string) =>
    encryption === null ? token : encrypt(LOGOUT_TOKEN_TYPE, token, toEncryption(encryption))
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
