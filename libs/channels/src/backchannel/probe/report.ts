import { errorTextOf, type InspectedTls, NETWORK } from '@curfew/domain'
import {
  inWords,
  type ProbeCheck,
  type ProbeReport,
  type ProbeResult,
  type ProbeSuggestion,
} from '../../probe-report.ts'
import type { BackchannelSettings } from '../settings.ts'
import { misconfiguredFix } from '../words.ts'
import {
  PROBE_REQUEST_IDS,
  type ProbeAnswer,
  type ProbeRequestId,
  type ProbeSubject,
  probeRequest,
  sameExceptNames,
} from './requests.ts'

/** The observations of a probe, and the registered settings. */
export interface ProbeFacts {
  readonly uri: string
  readonly now: Date
  /** The answers by request. A request without an entry was not sent. */
  readonly answers: ReadonlyMap<ProbeRequestId, ProbeAnswer>
  /** The TLS connection; null if there was none. */
  readonly tls: InspectedTls | null
  readonly settings: Pick<BackchannelSettings, 'subject_claims' | 'session_required'>
  readonly timeoutMs: number
}

/** Statuses that are not about the token: the endpoint is busy, or a gateway got no answer. */
const NOT_NOW = new Set([408, 425, 429, 502, 503, 504])

/** Whether a status is not about the token. */
export function isNotNow(status: number): boolean {
  return NOT_NOW.has(status)
}

/** The meaning of an answer: `accepted` is any 2xx, `silent` is not about the token. */
type Verdict = 'accepted' | 'refused' | 'silent'

function verdictOf(answer: ProbeAnswer): Verdict {
  if (answer.kind !== 'response' || isNotNow(answer.status)) return 'silent'
  return answer.status >= 200 && answer.status < 300 ? 'accepted' : 'refused'
}

/**
 * Whether the probe continues after the answer to the first good token. Without an answer, or if the address is not an endpoint
 * for back-channel logout, the other requests would get the same answer.
 */
export function probeGoesOn(first: ProbeAnswer): boolean {
  if (first.kind !== 'response' || isNotNow(first.status)) return false
  return acknowledges(first.status) || first.status === 400 || first.status === 422 || first.status >= 500
}

/** The subject claims of an accepted good token, which the forged tokens use too; `both` if none was accepted. */
export function acceptedSubject(answers: ProbeFacts['answers']): ProbeSubject {
  const accepted = (id: ProbeRequestId) => accepts(answers.get(id))
  if (accepted('good_token')) return 'both'
  if (accepted('sid_only')) return 'sid'
  return accepted('sub_only') ? 'sub' : 'both'
}

/** Whether a status acknowledges a good token (Back-Channel Logout section 2.8). Other 2xx statuses do not. */
function acknowledges(status: number): boolean {
  return status === 200 || status === 204
}

export function accepts(answer: ProbeAnswer | undefined): boolean {
  return answer?.kind === 'response' && acknowledges(answer.status)
}

type Finding = Pick<ProbeCheck, 'result' | 'what' | 'fix'>
type Head = Pick<ProbeCheck, 'id' | 'title' | 'level' | 'section'>

const NOTHING_ACCEPTED: Finding = {
  result: 'unknown',
  what: 'The endpoint accepts no good token, so this cannot be tested.',
  fix: null,
}
const DAY_MS = 86_400_000
/** The check `tls` fails if the certificate expires sooner. */
const CERTIFICATE_DAYS_MIN = 14

/** The checks of the connection, and those that use several answers. */
function probeFindings(facts: ProbeFacts, anyAccepted: boolean): readonly ProbeCheck[] {
  const good = facts.answers.get(GOOD[acceptedSubject(facts.answers)])
  const found = (head: Head, finding: Finding, answer: ProbeAnswer | null = null): ProbeCheck => ({
    ...head,
    ...finding,
    status: answer?.kind === 'response' ? answer.status : null,
    durationMs: answer?.durationMs ?? null,
  })
  const ifAccepted = (finding: (good: Accepted) => Finding): Finding =>
    anyAccepted && good?.kind === 'response' ? finding(good) : NOTHING_ACCEPTED
  return [
    found(HEADS.endpoint, endpoint(facts.answers.get('good_token')), facts.answers.get('good_token')),
    found(HEADS.tls, tls(facts)),
    found(HEADS.status_200, ifAccepted(status200), anyAccepted ? (good ?? null) : null),
    found(HEADS.cache_control, ifAccepted(cacheControl)),
    found(HEADS.unknown_subject, anyAccepted ? ACCEPTS_UNKNOWN : unknownSubject(facts.answers)),
    found(HEADS.refusal_status, anyAccepted ? refusalStatus(facts.answers) : NOTHING_ACCEPTED),
    found(
      HEADS.time,
      ifAccepted((accepted) => time(accepted, facts.timeoutMs)),
      anyAccepted ? (good ?? null) : null,
    ),
  ]
}

type Accepted = Extract<ProbeAnswer, { kind: 'response' }>

const GOOD = { both: 'good_token', sid: 'sid_only', sub: 'sub_only' } as const

const HEADS = {
  endpoint: {
    id: 'endpoint',
    title: 'exists, and is an endpoint for back-channel logout',
    level: 'must',
    section: 'Back-Channel Logout 2.5',
  },
  tls: {
    id: 'tls',
    title: 'uses TLS with a valid certificate',
    level: 'should',
    section: 'Back-Channel Logout 2.2; RFC 9325 3.1.1',
  },
  status_200: {
    id: 'status_200',
    title: 'answers a good token with 200',
    level: 'must',
    section: 'Back-Channel Logout 2.8',
  },
  cache_control: {
    id: 'cache_control',
    title: 'forbids caching of its answers (Cache-Control: no-store)',
    level: 'should',
    section: 'Back-Channel Logout 2.8',
  },
  unknown_subject: {
    id: 'unknown_subject',
    title: 'accepts a logout of a subject without a session',
    level: 'should',
    section: 'Back-Channel Logout 2.7',
  },
  refusal_status: {
    id: 'refusal_status',
    title: 'refuses with 400',
    level: 'must',
    section: 'Back-Channel Logout 2.6, 2.8',
  },
  time: { id: 'time', title: 'answers in time', level: 'informs', section: 'none; curfew.timeout_ms' },
} as const satisfies Readonly<Record<string, Head>>

const ACCEPTS_UNKNOWN: Finding = {
  result: 'passed',
  what: 'It accepts tokens for a subject and a session that do not exist, so a repeated or late logout succeeds.',
  fix: null,
}

function endpoint(first: ProbeAnswer | undefined): Finding {
  if (first === undefined) return { result: 'unknown', what: 'Nothing was sent.', fix: null }
  const what = `It ${inWords(first)}.`
  if (probeGoesOn(first)) return { result: 'passed', what, fix: null }
  if (first.kind === 'not_allowed') {
    return {
      result: 'failed',
      what,
      fix: 'Move the endpoint to a public https address. Or, for a registered endpoint, allow its network with curfew.allowed_networks or CURFEW_ALLOWED_NETWORKS.',
    }
  }
  if (first.kind === 'failure')
    return {
      result: 'failed',
      what,
      fix: NETWORK[first.failure]?.fix ?? 'Check that the relying party runs.',
    }
  return verdictOf(first) === 'silent'
    ? { result: 'failed', what, fix: 'Find the reason in its log, correct it, and probe again.' }
    : { result: 'failed', what, fix: misconfiguredFix(first.status) }
}

function tls({ uri, tls: seen, now }: ProbeFacts): Finding {
  if (/^http:/i.test(uri)) {
    return {
      result: 'failed',
      what: 'It is http: an attacker on the network can read tokens, and answer in its place.',
      fix: 'Serve it over https, and register that.',
    }
  }
  if (seen === null)
    return { result: 'unknown', what: 'There was no connection, so TLS could not be inspected.', fix: null }
  const days = Math.floor((seen.validTo.getTime() - now.getTime()) / DAY_MS)
  const what = `${seen.protocol}, verified. Its certificate is valid for ${days} more days.`
  return days < CERTIFICATE_DAYS_MIN
    ? {
        result: 'failed',
        what,
        fix: 'Renew its certificate before it expires, and automate the renewal.',
      }
    : { result: 'passed', what, fix: null }
}

function status200({ status }: Accepted): Finding {
  if (status === 200) return { result: 'passed', what: 'It answered 200.', fix: null }
  return {
    result: 'failed',
    what: `It answered ${status}. Curfew accepts this status too, but other senders may not.`,
    fix: 'Answer 200. Many frameworks answer 204 to an empty body by default.',
  }
}

function cacheControl({ headers = {} }: Accepted): Finding {
  const header = headers['cache-control']
  if (/(?:^|[\s,])no-store(?:$|[\s,;])/i.test(header ?? ''))
    return { result: 'passed', what: `Cache-Control: ${header}.`, fix: null }
  return {
    result: 'failed',
    what:
      header === undefined ? 'The answer has no Cache-Control.' : `The answer has Cache-Control: ${header}.`,
    fix: 'Send Cache-Control: no-store with every answer of the endpoint.',
  }
}

/**
 * Whether an endpoint refuses good tokens because their subject has no session. It does if it answers two good tokens with the
 * same text, and each forged token with another: so it verifies the signature, the issuer and the audience.
 */
function unknownSubject(answers: ProbeFacts['answers']): Finding {
  const textOf = (id: ProbeRequestId) => {
    const answer = answers.get(id)
    if (answer?.kind !== 'response' || verdictOf(answer) !== 'refused') return null
    const { error, errorDescription } = errorTextOf(answer)
    return `${answer.status} ${error} ${errorDescription}`
  }
  const good = textOf('good_token')
  const other = textOf('more_claims')
  const forged = (['signature_broken', 'issuer_other', 'audience_other'] as const).map(textOf)
  if (good === null || other === null || !sameExceptNames(good, other)) return NOTHING_ACCEPTED
  if (forged.some((text) => text === null || sameExceptNames(text, good))) return NOTHING_ACCEPTED
  const answer = answers.get('good_token')
  return {
    result: 'failed',
    what: `Its text for a good token differs from those for a broken signature, another issuer and another audience. So it verifies these, and refuses the good token because the subject has no session. It ${answer === undefined ? '' : inWords(answer)}. Curfew then takes a repeated logout, or a logout of an ended session, for a failure.`,
    fix: 'Answer 200 if the session does not exist: the user is logged out already. Then probe again, because the other checks prove nothing before.',
  }
}

/** Requests that must be answered with 400. GET, JSON and oversized bodies have other statuses. */
const ANSWERED_400 = PROBE_REQUEST_IDS.filter(
  (id) => probeRequest(id).expects === 'refused' && !['get', 'json', 'oversize', 'two_tokens'].includes(id),
)

function refusalStatus(answers: ProbeFacts['answers']): Finding {
  const others = ANSWERED_400.flatMap((id) => {
    const answer = answers.get(id)
    if (answer?.kind !== 'response' || verdictOf(answer) !== 'refused' || answer.status === 400) return []
    return [`${id} ${answer.status}`]
  })
  if (others.length === 0)
    return { result: 'passed', what: 'It answers 400 to every refused token.', fix: null }
  return {
    result: 'failed',
    what: `It does not answer 400 to every refused token: ${others.join(', ')}. To Curfew, statuses such as 401, 403 and 404 mean a misconfigured endpoint, and 5xx means an unavailable endpoint, so it tries again.`,
    fix: 'Answer 400 to every refused token, and do not let a filter or an error page answer in its place.',
  }
}

function time({ durationMs }: Accepted, timeoutMs: number): Finding {
  const what = `It answered a good token in ${durationMs} ms. Curfew waits for ${timeoutMs} ms.`
  if (durationMs <= timeoutMs / 2) return { result: 'passed', what, fix: null }
  return {
    result: 'failed',
    what,
    fix: 'Answer sooner, for example by ending sessions after the answer, or raise curfew.timeout_ms.',
  }
}

const TIMEOUT_MS_MAX = 30_000

/**
 * The settings that the answers suggest. A probe has no session, so it cannot observe which sessions a token ends. The texts say
 * so if it matters.
 */
function probeSuggestions({ answers, settings, timeoutMs }: ProbeFacts): readonly ProbeSuggestion[] {
  const { subject_claims: subjectClaims, session_required: sessionRequired } = settings
  const status = (id: ProbeRequestId) => {
    const answer = answers.get(id)
    return answer?.kind === 'response' ? answer.status : null
  }
  const accepted = (id: ProbeRequestId) => status(id) === 200 || status(id) === 204
  const refused = (id: ProbeRequestId) => !accepted(id) && (status(id) ?? 0) >= 400
  const suggestions: ProbeSuggestion[] = []
  const suggest = (setting: string, value: ProbeSuggestion['value'], why: string) =>
    suggestions.push({ setting, value, why })

  if (accepted('sid_only') && accepted('sub_only') && accepted('good_token') && subjectClaims === 'both') {
    suggest(
      'curfew.subject_claims',
      'sid',
      'It accepts sid alone, sub alone, and both. A token with both should end one session, but some libraries (express-openid-connect) end every session of the subject. A probe without a session cannot see which. A token with sid alone is unambiguous: it ends one session. Keep both if you know that the relying party ends only this session.',
    )
  }
  if (accepted('sub_only') && refused('sid_only') && subjectClaims !== 'sub' && !accepted('good_token')) {
    suggest(
      'curfew.subject_claims',
      'sub',
      'It accepts a token with sub alone, and refuses every token with sid. Every logout then ends all sessions of the subject.',
    )
  }
  if (accepted('sub_only') && refused('sid_only') && accepted('good_token') && subjectClaims === 'sid') {
    suggest('curfew.subject_claims', 'both', 'It refuses a token with sid alone, and accepts one with both.')
  }
  if (accepted('sid_only') && refused('good_token') && subjectClaims !== 'sid') {
    suggest('curfew.subject_claims', 'sid', 'It accepts a token with sid alone, and refuses one with both.')
  }
  if (accepted('sid_only') && refused('sub_only') && !sessionRequired) {
    suggest(
      'backchannel_logout_session_required',
      true,
      'It refuses a token with sub alone. With this setting, a logout without a sid becomes a dead letter at once, and the relying party does not have to refuse it again and again.',
    )
  }
  const slowest = Math.max(
    ...[...answers.values()].map(({ kind, durationMs }) => (kind === 'response' ? durationMs : 0)),
  )
  if (slowest > timeoutMs / 2 && timeoutMs < TIMEOUT_MS_MAX) {
    suggest(
      'curfew.timeout_ms',
      Math.min(TIMEOUT_MS_MAX, Math.ceil((slowest * 3) / 1_000) * 1_000),
      `It took up to ${slowest} ms to answer. Curfew waits for ${timeoutMs} ms.`,
    )
  }
  return suggestions
}

/** Makes the report. If no good token is accepted, a refusal proves nothing, so the checks that expect one are unknown. */
export function probeReport(facts: ProbeFacts): ProbeReport {
  const anyAccepted = ['good_token', 'sid_only', 'sub_only'].some((id) =>
    accepts(facts.answers.get(id as ProbeRequestId)),
  )
  const findings = probeFindings(facts, anyAccepted)
  const unknownRefused = findings.some(({ id, result }) => id === 'unknown_subject' && result === 'failed')
  const requests = PROBE_REQUEST_IDS.map((id) => judged(id, facts, { anyAccepted, unknownRefused }))
  return { checks: [...findings, ...requests], suggestions: anyAccepted ? probeSuggestions(facts) : [] }
}

interface Ground {
  /** At least one good token was accepted. */
  readonly anyAccepted: boolean
  /** Good tokens are refused because their subject has no session. */
  readonly unknownRefused: boolean
}

function judged(id: ProbeRequestId, facts: ProbeFacts, { anyAccepted, unknownRefused }: Ground): ProbeCheck {
  const { title, level, section, expects, wrong, fix } = probeRequest(id)
  const answer = facts.answers.get(id)
  const check = (result: ProbeResult, what: string, remedy: string | null = null): ProbeCheck => ({
    ...{ id, title, level, section, result, what, fix: remedy },
    status: answer?.kind === 'response' ? answer.status : null,
    durationMs: answer?.durationMs ?? null,
  })
  if (answer === undefined) return check('unknown', notSent(facts))
  const seen = inWords(answer)
  const verdict = verdictOf(answer)
  if (id === 'oversize') return oversize(answer, check, { seen, wrong, fix, anyAccepted })
  if (expects === 'refused') {
    if (verdict === 'accepted') return check('failed', `${wrong} It ${seen}.`, fix)
    if (verdict === 'silent') return check('unknown', `The answer is not about the token: it ${seen}.`)
    if (anyAccepted) return check('passed', `It ${seen}.`)
    return check('unknown', `It ${seen}. This proves nothing, because it refuses a good token too.`)
  }
  if (accepts(answer)) return check('passed', `It ${seen}.`)
  if (expects === 'either' && verdict === 'refused' && anyAccepted)
    return check('passed', `${wrong} ${fix} It ${seen}.`)
  if (verdict === 'silent') return check('unknown', `The answer is not about the token: it ${seen}.`)
  if (id === 'good_token' && !probeGoesOn(answer))
    return check('unknown', 'The address is not an endpoint for back-channel logout.')
  if (unknownRefused)
    return check('unknown', `It ${seen}, probably because the subject of the token has no session.`)
  if (id === 'sub_only' && facts.settings.session_required)
    return check('passed', `It ${seen}, as backchannel_logout_session_required allows.`)
  if (isBase(id) || anyAccepted) return check('failed', `${wrong} It ${seen}.`, fixFor(answer, fix))
  return check('unknown', `It ${seen}. This proves nothing, because it refuses every good token.`)
}

function notSent({ answers }: ProbeFacts): string {
  const first = answers.get('good_token')
  return first !== undefined && probeGoesOn(first)
    ? 'It was not sent. The other answers took all the time of the probe.'
    : 'It was not sent. After the answer to a good token it could prove nothing.'
}

/** Whether a request has a good token that differs from the others only in its subject claims. */
function isBase(id: ProbeRequestId): boolean {
  return id === 'good_token' || id === 'sid_only' || id === 'sub_only'
}

/** The fix for a status that the specification does not have is more exact than that of the check. */
function fixFor(answer: ProbeAnswer, fix: string): string {
  if (answer.kind !== 'response') return fix
  const { status } = answer
  return status === 400 || status === 422 || status >= 500 ? fix : misconfiguredFix(status)
}

/** Judges the answer to an oversized token. A closed connection is a refusal, a timeout is not. */
function oversize(
  answer: ProbeAnswer,
  check: (result: ProbeResult, what: string, remedy?: string | null) => ProbeCheck,
  { seen, wrong, fix, anyAccepted }: { seen: string; wrong: string; fix: string; anyAccepted: boolean },
): ProbeCheck {
  const cut = answer.kind === 'failure' && answer.failure === 'connection_reset'
  const hangs = answer.kind === 'failure' && answer.failure === 'timeout'
  if (hangs || verdictOf(answer) === 'accepted') return check('failed', `${wrong} It ${seen}.`, fix)
  if (cut || answer.kind === 'response') {
    return anyAccepted || (answer.kind === 'response' && answer.status === 413)
      ? check('passed', `It ${seen}.`)
      : check('unknown', `It ${seen}. This proves nothing, because it refuses a good token too.`)
  }
  return check('unknown', `The answer is not about the token: it ${seen}.`)
}
