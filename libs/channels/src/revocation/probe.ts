import { type Answer, errorTextOf, NETWORK, type SessionToken } from '@curfew/domain'
import type { ProbeTarget, ProbeTools } from '../channel.ts'
import { inWords, isBusy, type ProbeCheck, type ProbeReport } from '../probe-report.ts'
import { credentialFor, NO_CREDENTIAL, requestOf, withoutSecrets } from './request.ts'
import type { RevocationSettings } from './settings.ts'
import { requestFix } from './words.ts'

type Target = ProbeTarget<RevocationSettings>
type Finding = Pick<ProbeCheck, 'result' | 'what' | 'fix'>

/** One request with the credential, and one without. */
export const PROBE_REQUESTS_MAX = 2
/** The limit for one request, in milliseconds. */
const REQUEST_MS_MAX = 10_000

/** The answer to one request of the probe. */
interface Seen {
  readonly answer: Answer
  readonly durationMs: number
}

/** Asks for the revocation of a token that does not exist, with the credential and without it. See `Probe`. */
export async function runProbe(target: Target, tools: ProbeTools): Promise<ProbeReport & { sent: number }> {
  const { settings, clientId, iss } = target
  const token: SessionToken = { token: `curfew-probe-${tools.newId()}`, hint: 'refresh_token' }
  let sent = 0
  const ask = async (credential: typeof NO_CREDENTIAL): Promise<Seen> => {
    const request = requestOf(token, credential)
    const { headers, body } = request
    const startedMs = performance.now()
    const timeoutMs = Math.min(target.timeoutMs, REQUEST_MS_MAX)
    const answer = await tools.http.post({ uri: target.uri, headers, body, timeoutMs })
    tools.onProgress(++sent)
    return {
      answer: withoutSecrets(answer, request),
      durationMs: Math.round(performance.now() - startedMs),
    }
  }

  const own = { ...tools, now: () => new Date() }
  const known = await ask(await credentialFor(settings, { clientId, iss }, own))
  const checks: ProbeCheck[] = [
    {
      ...{ id: 'unknown_token', title: 'answers 200 to an unknown token', level: 'must' },
      ...{ section: 'RFC 7009 2.2', ...judge(known.answer, target), ...measured(known) },
    },
  ]
  if (ASKING.has(settings.method)) {
    const without = await ask(NO_CREDENTIAL)
    checks.push({
      ...{ id: 'no_credential', title: 'refuses a request without a credential', level: 'must' },
      ...{ section: 'RFC 7009 2.1', ...judgeWithout(without.answer), ...measured(without) },
    })
  }
  return { checks, suggestions: [], sent }
}

/** The methods whose credential is a part of the request, so that a request can lack it. */
const ASKING: ReadonlySet<string> = new Set([
  'client_secret_basic',
  'client_secret_post',
  'client_secret_jwt',
  'private_key_jwt',
])

function measured({ answer, durationMs }: Seen): Pick<ProbeCheck, 'status' | 'durationMs'> {
  return { status: answer.kind === 'response' ? answer.status : null, durationMs }
}

function judge(answer: Answer, { uri }: Target): Finding {
  const what = `It ${inWords(answer)}.`
  if (answer.kind !== 'response') {
    const fix = answer.kind === 'failure' ? NETWORK[answer.failure]?.fix : undefined
    return { result: 'failed', what, fix: fix ?? 'Check that the endpoint answers.' }
  }
  const { status } = answer
  if (status === 200) return { result: 'passed', what, fix: null }
  if (isBusy(status)) return { result: 'unknown', what, fix: null }
  const { error, location = null } = errorTextOf(answer)
  return { result: 'failed', what, fix: requestFix({ status, error }, { uri, location }) }
}

function judgeWithout(answer: Answer): Finding {
  const what = `It ${inWords(answer)}.`
  if (answer.kind !== 'response' || isBusy(answer.status)) return { result: 'unknown', what, fix: null }
  const { status } = answer
  if (status === 400 || status === 401 || status === 403) return { result: 'passed', what, fix: null }
  if (status < 200 || status >= 300) return { result: 'unknown', what, fix: null }
  return {
    result: 'failed',
    what: `A request without a credential is accepted, so the server does not check which client revokes a token. ${what}`,
    fix: 'Check that the address is the revocation_endpoint, and that the server knows the client as confidential.',
  }
}
