import { type InspectedTls, NETWORK, saidOf } from '@curfew/domain'
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
  sameButForNames,
} from './requests.ts'

/** What was seen, and what is registered today. */
export interface ProbeFacts {
  readonly uri: string
  readonly now: Date
  /** By request. What is missing was not sent. */
  readonly answers: ReadonlyMap<ProbeRequestId, ProbeAnswer>
  /** Null where there was none to be seen. */
  readonly tls: InspectedTls | null
  readonly settings: Pick<BackchannelSettings, 'subject_claims' | 'session_required'>
  readonly timeoutMs: number
}

/** Statuses that say nothing of a token: not now, or a gateway that got no answer. */
const NOT_NOW = new Set([408, 425, 429, 502, 503, 504])

/** Whether a status says nothing of what was sent. */
export function saysNotNow(status: number): boolean {
  return NOT_NOW.has(status)
}

/** What an answer came to: `taken` is any 2xx, `silent` says nothing of the token. */
type Fate = 'taken' | 'refused' | 'silent'

function fateOf(answer: ProbeAnswer): Fate {
  if (answer.kind !== 'response' || saysNotNow(answer.status)) return 'silent'
  return answer.status >= 200 && answer.status < 300 ? 'taken' : 'refused'
}

/**
 * Whether more is to be learned after the answer to the first good token. Where nothing answers, or something that is no
 * endpoint for back-channel logout, every other request would come to the same.
 */
export function probeGoesOn(first: ProbeAnswer): boolean {
  if (first.kind !== 'response' || saysNotNow(first.status)) return false
  return acknowledges(first.status) || first.status === 400 || first.status === 422 || first.status >= 500
}

/** The good token that is taken, for the checks that change one thing about it; `both` where none is. */
export function takenSubject(answers: ProbeFacts['answers']): ProbeSubject {
  const taken = (id: ProbeRequestId) => takes(answers.get(id))
  if (taken('good_token')) return 'both'
  if (taken('sid_only')) return 'sid'
  return taken('sub_only') ? 'sub' : 'both'
}

/** What a good token is answered with (Back-Channel Logout 2.8). Any other 2xx is none of its answers. */
function acknowledges(status: number): boolean {
  return status === 200 || status === 204
}

export function takes(answer: ProbeAnswer | undefined): boolean {
  return answer?.kind === 'response' && acknowledges(answer.status)
}

type Finding = Pick<ProbeCheck, 'result' | 'what' | 'fix'>
type Head = Pick<ProbeCheck, 'id' | 'title' | 'level' | 'section'>

const NOTHING_TAKEN: Finding = {
  result: 'unknown',
  what: 'No good token is taken, so it cannot be seen.',
  fix: null,
}
const DAY_MS = 86_400_000
/** A certificate that ends sooner is worth a word. */
const CERTIFICATE_DAYS_MIN = 14

/** What several answers together, or the connection, say. */
function probeFindings(facts: ProbeFacts, anyTaken: boolean): readonly ProbeCheck[] {
  const good = facts.answers.get(GOOD[takenSubject(facts.answers)])
  const found = (head: Head, finding: Finding, answer: ProbeAnswer | null = null): ProbeCheck => ({
    ...head,
    ...finding,
    status: answer?.kind === 'response' ? answer.status : null,
    durationMs: answer?.durationMs ?? null,
  })
  const whenTaken = (finding: (good: Taken) => Finding): Finding =>
    anyTaken && good?.kind === 'response' ? finding(good) : NOTHING_TAKEN
  return [
    found(HEADS.endpoint, endpoint(facts.answers.get('good_token')), facts.answers.get('good_token')),
    found(HEADS.tls, tls(facts)),
    found(HEADS.status_200, whenTaken(status200), anyTaken ? (good ?? null) : null),
    found(HEADS.cache_control, whenTaken(cacheControl)),
    found(HEADS.unknown_subject, anyTaken ? KNOWS_NOBODY : unknownSubject(facts.answers)),
    found(HEADS.refusal_status, anyTaken ? refusalStatus(facts.answers) : NOTHING_TAKEN),
    found(
      HEADS.time,
      whenTaken((taken) => time(taken, facts.timeoutMs)),
      anyTaken ? (good ?? null) : null,
    ),
  ]
}

type Taken = Extract<ProbeAnswer, { kind: 'response' }>

const GOOD = { both: 'good_token', sid: 'sid_only', sub: 'sub_only' } as const

const HEADS = {
  endpoint: {
    id: 'endpoint',
    title: 'is there, and is an endpoint for back-channel logout',
    level: 'must',
    section: 'Back-Channel Logout 2.5',
  },
  tls: {
    id: 'tls',
    title: 'is reached over TLS with a certificate that holds',
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
    title: 'forbids to keep its answers (Cache-Control: no-store)',
    level: 'should',
    section: 'Back-Channel Logout 2.8',
  },
  unknown_subject: {
    id: 'unknown_subject',
    title: 'takes a logout of who has no session there',
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

const KNOWS_NOBODY: Finding = {
  result: 'passed',
  what: 'Tokens for a subject and a session that do not exist are taken, so a logout that comes twice or late succeeds.',
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
      fix: 'Move it to a public https address; or, where it is registered, allow its network by curfew.allowed_networks or CURFEW_ALLOWED_NETWORKS.',
    }
  }
  if (first.kind === 'failure')
    return { result: 'failed', what, fix: NETWORK[first.failure]?.fix ?? 'See that it is up.' }
  return fateOf(first) === 'silent'
    ? { result: 'failed', what, fix: 'Find in its log why it could not answer, mend that, and probe again.' }
    : { result: 'failed', what, fix: misconfiguredFix(first.status) }
}

function tls({ uri, tls: seen, now }: ProbeFacts): Finding {
  if (/^http:/i.test(uri)) {
    return {
      result: 'failed',
      what: 'It is http: whoever is on the way can read tokens, and answer in its name.',
      fix: 'Serve it over https, and register that.',
    }
  }
  if (seen === null)
    return { result: 'unknown', what: 'No connection stood, so it cannot be seen.', fix: null }
  const days = Math.floor((seen.validTo.getTime() - now.getTime()) / DAY_MS)
  const what = `${seen.protocol}, verified; its certificate is good for ${days} more days.`
  return days < CERTIFICATE_DAYS_MIN
    ? {
        result: 'failed',
        what,
        fix: 'Renew its certificate before it ends, and let that be done by itself from then on.',
      }
    : { result: 'passed', what, fix: null }
}

function status200({ status }: Taken): Finding {
  if (status === 200) return { result: 'passed', what: 'It answered 200.', fix: null }
  return {
    result: 'failed',
    what: `It answered ${status}, which Curfew takes for done as well; not every sender does.`,
    fix: 'Answer 200: many frameworks make 204 of an empty body unless they are told otherwise.',
  }
}

function cacheControl({ headers = {} }: Taken): Finding {
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
 * Where no good token is taken: whether it is for its naming nobody. That shows where good tokens are refused in the same
 * words each time, and forged ones in others: then the good ones came further.
 */
function unknownSubject(answers: ProbeFacts['answers']): Finding {
  const said = (id: ProbeRequestId) => {
    const answer = answers.get(id)
    if (answer?.kind !== 'response' || fateOf(answer) !== 'refused') return null
    const { error, errorDescription } = saidOf(answer)
    return `${answer.status} ${error} ${errorDescription}`
  }
  const good = said('good_token')
  const again = said('more_claims')
  const forged = (['signature_broken', 'issuer_other', 'audience_other'] as const).map(said)
  if (good === null || again === null || !sameButForNames(good, again)) return NOTHING_TAKEN
  if (forged.some((words) => words === null || sameButForNames(words, good))) return NOTHING_TAKEN
  const answer = answers.get('good_token')
  return {
    result: 'failed',
    what: `It refuses a good token in other words than one with a broken signature, another issuer or another audience: so those pass, and it is refused because nobody of that name has a session. It ${answer === undefined ? '' : inWords(answer)}. A logout that comes twice, or after the session ended, looks like a failure to Curfew.`,
    fix: 'Answer 200 where there is no such session any more: who is logged out already has been logged out. Then probe again, for the other checks prove nothing until then.',
  }
}

/** Tokens and forms that must be answered 400. GET, JSON and what is too large have statuses of their own. */
const ANSWERED_400 = PROBE_REQUEST_IDS.filter(
  (id) => probeRequest(id).expects === 'refused' && !['get', 'json', 'oversize', 'two_tokens'].includes(id),
)

function refusalStatus(answers: ProbeFacts['answers']): Finding {
  const others = ANSWERED_400.flatMap((id) => {
    const answer = answers.get(id)
    if (answer?.kind !== 'response' || fateOf(answer) !== 'refused' || answer.status === 400) return []
    return [`${id} ${answer.status}`]
  })
  if (others.length === 0)
    return { result: 'passed', what: 'What it refuses, it answers with 400.', fix: null }
  return {
    result: 'failed',
    what: `What it refuses is not always answered with 400: ${others.join(', ')}. Curfew takes 401, 403, 404 and the like for an endpoint that is set up wrongly, and 5xx for one that is down and tries again.`,
    fix: 'Answer 400 to every token that is refused, and let no filter or error page answer before.',
  }
}

function time({ durationMs }: Taken, timeoutMs: number): Finding {
  const what = `A good token was answered in ${durationMs} ms; Curfew waits for ${timeoutMs} ms.`
  if (durationMs <= timeoutMs / 2) return { result: 'passed', what, fix: null }
  return {
    result: 'failed',
    what,
    fix: 'Answer sooner, as by ending sessions after the answer; or raise curfew.timeout_ms.',
  }
}

const TIMEOUT_MS_MAX = 30_000

/**
 * What was seen implies for our settings. What a token ends can be seen with a session only, and a probe names none: that is
 * said where it matters.
 */
function probeSuggestions({ answers, settings, timeoutMs }: ProbeFacts): readonly ProbeSuggestion[] {
  const { subject_claims: subjectClaims, session_required: sessionRequired } = settings
  const status = (id: ProbeRequestId) => {
    const answer = answers.get(id)
    return answer?.kind === 'response' ? answer.status : null
  }
  const taken = (id: ProbeRequestId) => status(id) === 200 || status(id) === 204
  const refused = (id: ProbeRequestId) => !taken(id) && (status(id) ?? 0) >= 400
  const suggestions: ProbeSuggestion[] = []
  const suggest = (setting: string, value: ProbeSuggestion['value'], why: string) =>
    suggestions.push({ setting, value, why })

  if (taken('sid_only') && taken('sub_only') && taken('good_token') && subjectClaims === 'both') {
    suggest(
      'curfew.subject_claims',
      'sid',
      'It takes sid alone, sub alone, and both. Whether both then end the one session, as is meant, or every session of the subject, as some libraries do (express-openid-connect), cannot be seen without a session. With sid alone it cannot be mistaken: a logout of one session ends that one. Keep both if you know that it ends only that.',
    )
  }
  if (taken('sub_only') && refused('sid_only') && subjectClaims !== 'sub' && !taken('good_token')) {
    suggest(
      'curfew.subject_claims',
      'sub',
      'It takes a token with sub alone, and none with sid. Every logout then ends all sessions of the subject.',
    )
  }
  if (taken('sub_only') && refused('sid_only') && taken('good_token') && subjectClaims === 'sid') {
    suggest('curfew.subject_claims', 'both', 'It refuses a token with sid alone, and takes one with both.')
  }
  if (taken('sid_only') && refused('good_token') && subjectClaims !== 'sid') {
    suggest('curfew.subject_claims', 'sid', 'It takes a token with sid alone, and refuses one with both.')
  }
  if (taken('sid_only') && refused('sub_only') && !sessionRequired) {
    suggest(
      'backchannel_logout_session_required',
      true,
      'It refuses a token with sub alone. Registered so, a logout that names no session is recorded as one that it cannot be told, rather than refused by it again and again.',
    )
  }
  const slowest = Math.max(
    ...[...answers.values()].map(({ kind, durationMs }) => (kind === 'response' ? durationMs : 0)),
  )
  if (slowest > timeoutMs / 2 && timeoutMs < TIMEOUT_MS_MAX) {
    suggest(
      'curfew.timeout_ms',
      Math.min(TIMEOUT_MS_MAX, Math.ceil((slowest * 3) / 1_000) * 1_000),
      `It took up to ${slowest} ms to answer, of the ${timeoutMs} ms that Curfew waits.`,
    )
  }
  return suggestions
}

/** Judges what was seen. Nothing is said to be refused where nothing is taken: that would prove nothing. */
export function probeReport(facts: ProbeFacts): ProbeReport {
  const anyTaken = ['good_token', 'sid_only', 'sub_only'].some((id) =>
    takes(facts.answers.get(id as ProbeRequestId)),
  )
  const findings = probeFindings(facts, anyTaken)
  const nobodyRefused = findings.some(({ id, result }) => id === 'unknown_subject' && result === 'failed')
  const requests = PROBE_REQUEST_IDS.map((id) => judged(id, facts, { anyTaken, nobodyRefused }))
  return { checks: [...findings, ...requests], suggestions: anyTaken ? probeSuggestions(facts) : [] }
}

interface Ground {
  /** Some good token was taken. */
  readonly anyTaken: boolean
  /** Good tokens are refused because they name nobody who has a session. */
  readonly nobodyRefused: boolean
}

function judged(id: ProbeRequestId, facts: ProbeFacts, { anyTaken, nobodyRefused }: Ground): ProbeCheck {
  const { title, level, section, expects, wrong, fix } = probeRequest(id)
  const answer = facts.answers.get(id)
  const check = (result: ProbeResult, what: string, mend: string | null = null): ProbeCheck => ({
    ...{ id, title, level, section, result, what, fix: mend },
    status: answer?.kind === 'response' ? answer.status : null,
    durationMs: answer?.durationMs ?? null,
  })
  if (answer === undefined) return check('unknown', notSent(facts))
  const seen = inWords(answer)
  const fate = fateOf(answer)
  if (id === 'oversize') return oversize(answer, check, { seen, wrong, fix, anyTaken })
  if (expects === 'refused') {
    if (fate === 'taken') return check('failed', `${wrong} It ${seen}.`, fix)
    if (fate === 'silent') return check('unknown', `Nothing can be said: it ${seen}.`)
    if (anyTaken) return check('passed', `It ${seen}.`)
    return check('unknown', `It ${seen}; but so it does to a good token, which proves nothing.`)
  }
  if (takes(answer)) return check('passed', `It ${seen}.`)
  if (expects === 'either' && fate === 'refused' && anyTaken)
    return check('passed', `${wrong} ${fix} It ${seen}.`)
  if (fate === 'silent') return check('unknown', `Nothing can be said: it ${seen}.`)
  if (id === 'good_token' && !probeGoesOn(answer))
    return check('unknown', 'Nothing can be said: what answers is no endpoint for back-channel logout.')
  if (nobodyRefused)
    return check('unknown', `It ${seen}, as it seems because the token names nobody who has a session there.`)
  if (id === 'sub_only' && facts.settings.session_required)
    return check('passed', `It ${seen}, as backchannel_logout_session_required says.`)
  if (isBase(id) || anyTaken) return check('failed', `${wrong} It ${seen}.`, mend(answer, fix))
  return check('unknown', `It ${seen}; but so it does to any good token.`)
}

function notSent({ answers }: ProbeFacts): string {
  const first = answers.get('good_token')
  return first !== undefined && probeGoesOn(first)
    ? 'It was not sent: the answers to the others took all the time that a probe may take.'
    : 'It was not sent: after the answer to a good token nothing could be learned by it.'
}

/** Good tokens that differ in nothing but whom they name. */
function isBase(id: ProbeRequestId): boolean {
  return id === 'good_token' || id === 'sid_only' || id === 'sub_only'
}

/** A status that none for back-channel logout answers with says more of what is wrong than the check does. */
function mend(answer: ProbeAnswer, fix: string): string {
  if (answer.kind !== 'response') return fix
  const { status } = answer
  return status === 400 || status === 422 || status >= 500 ? fix : misconfiguredFix(status)
}

/** Who cuts the connection refuses; who lets it hang does not. */
function oversize(
  answer: ProbeAnswer,
  check: (result: ProbeResult, what: string, mend?: string | null) => ProbeCheck,
  { seen, wrong, fix, anyTaken }: { seen: string; wrong: string; fix: string; anyTaken: boolean },
): ProbeCheck {
  const cut = answer.kind === 'failure' && answer.failure === 'connection_reset'
  const hangs = answer.kind === 'failure' && answer.failure === 'timeout'
  if (hangs || fateOf(answer) === 'taken') return check('failed', `${wrong} It ${seen}.`, fix)
  if (cut || answer.kind === 'response') {
    return anyTaken || (answer.kind === 'response' && answer.status === 413)
      ? check('passed', `It ${seen}.`)
      : check('unknown', `It ${seen}; but it takes no good token either.`)
  }
  return check('unknown', `Nothing can be said: it ${seen}.`)
}
