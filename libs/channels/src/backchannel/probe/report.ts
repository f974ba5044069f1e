import { errorTextOf, NETWORK } from '@curfew/domain'
import { inWords, type ProbeCheck, type ProbeReport, type ProbeSuggestion } from '../../probe-report.ts'
import { knownFix } from '../known-answers.ts'
import { misconfiguredFix } from '../words.ts'
import {
  acceptedSubject,
  accepts,
  acceptsAnything,
  goodRequest,
  type ProbeFacts,
  probeGoesOn,
  saysEnded,
  UNVERIFIED,
  verdictOf,
} from './facts.ts'
import {
  PROBE_REQUEST_IDS,
  type ProbeAnswer,
  type ProbeRequestId,
  type ProbeSubject,
  probeRequest,
  sameExceptNames,
} from './requests.ts'
import { alreadyEndedSuggestion, probeSuggestions, typInWords } from './suggestions.ts'

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
function probeFindings(facts: ProbeFacts, ground: Ground): readonly ProbeCheck[] {
  const { subject } = ground
  const good = subject === null ? null : (facts.answers.get(goodRequest(subject, facts)) ?? null)
  const found = (head: Head, finding: Finding, answer: ProbeAnswer | null = null): ProbeCheck => ({
    ...head,
    ...finding,
    status: answer?.kind === 'response' ? answer.status : null,
    durationMs: answer?.durationMs ?? null,
  })
  const ifAccepted = (finding: (good: Accepted) => Finding): Finding =>
    good?.kind === 'response' ? finding(good) : NOTHING_ACCEPTED
  const first = facts.answers.get('good_token')
  const ended = endedFinding(facts)
  return [
    found(HEADS.endpoint, ground.acceptsAnything ? ANYTHING : endpoint(first, facts), first),
    found(HEADS.tls, tls(facts)),
    found(
      HEADS.status_200,
      ifAccepted((accepted) => status200(accepted, facts)),
      good,
    ),
    found(HEADS.cache_control, ifAccepted(cacheControl)),
    found(HEADS.unknown_subject, ifUnknown(facts, ground)),
    ...(ended === null ? [] : [found(HEADS.already_ended_errors, ended)]),
    found(HEADS.refusal_status, good === null ? NOTHING_ACCEPTED : refusalStatus(facts)),
    found(
      HEADS.time,
      ifAccepted((accepted) => time(accepted, facts.timeoutMs)),
      good,
    ),
  ]
}

type Accepted = Extract<ProbeAnswer, { kind: 'response' }>

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
  already_ended_errors: {
    id: 'already_ended_errors',
    title: 'answers a registered error only to tokens that it verified',
    level: 'informs',
    section: 'none; curfew.already_ended_errors',
  },
  refusal_status: {
    id: 'refusal_status',
    title: 'refuses with 400',
    level: 'must',
    section: 'Back-Channel Logout 2.6, 2.8',
  },
  time: { id: 'time', title: 'answers in time', level: 'informs', section: 'none; curfew.timeout_ms' },
} as const satisfies Readonly<Record<string, Head>>

const ANYTHING: Finding = {
  result: 'unknown',
  what: 'It accepts a text that is not a token, so it may be any page that answers a POST, or it answers before it reads the token.',
  fix: null,
}

const ACCEPTS_UNKNOWN: Finding = {
  result: 'passed',
  what: 'It accepts tokens for a subject and a session that do not exist, so a repeated or late logout succeeds.',
  fix: null,
}

function endpoint(first: ProbeAnswer | undefined, facts: ProbeFacts): Finding {
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
    : { result: 'failed', what, fix: misconfiguredOf(first, facts) }
}

/** How to correct an endpoint that answers with a status that the specification does not have. */
function misconfiguredOf(answer: Accepted, { uri, settings }: ProbeFacts): string {
  // The target without secrets: the header itself may have some, may be long, and may be withheld.
  const last = { status: answer.status, location: null, ...errorTextOf(answer) }
  return misconfiguredFix(last, { uri, settings })
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

function status200(answer: Accepted, { settings }: ProbeFacts): Finding {
  const { status } = answer
  if (status === 200) return { result: 'passed', what: 'It answered 200.', fix: null }
  if (saysEnded(answer, settings)) {
    const what = `It ${inWords(answer)}, because the token names no session. Its answer to a real logout was not observed.`
    return { result: 'unknown', what, fix: null }
  }
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

/** Whether the endpoint accepts a logout of a subject without a session. */
function ifUnknown(facts: ProbeFacts, { subject, acceptsAnything }: Ground): Finding {
  if (acceptsAnything) return ANYTHING
  if (subject === null) return unknownSubject(facts)
  const answer = facts.answers.get(goodRequest(subject, facts))
  if (answer === undefined || !saysEnded(answer, facts.settings)) return ACCEPTS_UNKNOWN
  return {
    result: 'failed',
    what: `It ${inWords(answer)}. Because of curfew.already_ended_errors, Curfew takes this for an acknowledgement. Other senders take it for a failure.`,
    fix: 'Answer 200 if the session does not exist: the user is logged out already.',
  }
}

/**
 * Whether an endpoint refuses good tokens because their subject has no session. It does if it answers two good tokens with the
 * same text, and each forged token with another: so it verifies the signature, the issuer and the audience.
 */
function unknownSubject(facts: ProbeFacts): Finding {
  const { answers } = facts
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
  const setting =
    alreadyEndedSuggestion(facts) === null
      ? ''
      : ' If it cannot be changed, register the suggested curfew.already_ended_errors.'
  return {
    result: 'failed',
    what: `Its text for a good token differs from those for a broken signature, another issuer and another audience. So it verifies these, and refuses the good token because the subject has no session. It ${answer === undefined ? '' : inWords(answer)}. Curfew then takes a repeated logout, or a logout of an ended session, for a failure.`,
    fix: `Answer 200 if the session does not exist: the user is logged out already.${setting} Then probe again, because the other checks prove nothing before.`,
  }
}

/** Whether registered errors mean that the session is over. Null if none is registered. */
function endedFinding({ answers, settings }: ProbeFacts): Finding | null {
  if (settings.already_ended_errors.length === 0) return null
  const wrong = UNVERIFIED.filter((id) => saysEnded(answers.get(id), settings))
  if (wrong.length > 0) {
    return {
      result: 'failed',
      what: `It answers an error of curfew.already_ended_errors to tokens that it must refuse: ${wrong.join(', ')}. So this error does not show that a session is over, and Curfew may take lost logouts for delivered ones.`,
      fix: 'Remove the error from curfew.already_ended_errors.',
    }
  }
  if (![...answers.values()].some((answer) => saysEnded(answer, settings)))
    return { result: 'unknown', what: 'No answer had a registered error.', fix: null }
  return {
    result: 'passed',
    what: 'It answered a registered error, and to no token that it cannot verify.',
    fix: null,
  }
}

/** Requests that must be answered with 400. GET, JSON and oversized bodies have other statuses. */
const ANSWERED_400 = PROBE_REQUEST_IDS.filter(
  (id) => probeRequest(id).expects === 'refused' && !['get', 'json', 'oversize', 'two_tokens'].includes(id),
)

function refusalStatus({ answers, settings }: ProbeFacts): Finding {
  const refused = ANSWERED_400.flatMap((id) => {
    const answer = answers.get(id)
    if (answer?.kind !== 'response' || verdictOf(answer) !== 'refused' || saysEnded(answer, settings))
      return []
    return [{ id, status: answer.status }]
  })
  if (refused.length === 0)
    return {
      result: 'unknown',
      what: 'It refused no token, so its answer to one was not observed.',
      fix: null,
    }
  const others = refused.filter(({ status }) => status !== 400).map(({ id, status }) => `${id} ${status}`)
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

/** Makes the report. If no good token is accepted, a refusal proves nothing, so the checks that expect one are unknown. */
export function probeReport(facts: ProbeFacts): ProbeReport {
  const subject = acceptedSubject(facts)
  const before = { subject, acceptsAnything: acceptsAnything(facts), unknownRefused: false }
  const findings = probeFindings(facts, before)
  const unknownRefused =
    subject === null && findings.some(({ id, result }) => id === 'unknown_subject' && result === 'failed')
  const ground = { ...before, unknownRefused }
  const requests = PROBE_REQUEST_IDS.map((id) => judged(id, facts, ground))
  return { checks: [...findings, ...requests], suggestions: suggestionsOf(facts, ground) }
}

function suggestionsOf(
  facts: ProbeFacts,
  { subject, acceptsAnything, unknownRefused }: Ground,
): readonly ProbeSuggestion[] {
  if (acceptsAnything) return []
  if (subject !== null) return probeSuggestions(facts)
  const ended = unknownRefused ? alreadyEndedSuggestion(facts) : null
  return ended === null ? [] : [ended]
}

/** The answers that give the other answers their meaning. */
interface Ground {
  /** The subject claims of an accepted good token; null if none was accepted. */
  readonly subject: ProbeSubject | null
  /** Even a text that is not a token is accepted, so an acceptance proves nothing. */
  readonly acceptsAnything: boolean
  /** Good tokens are refused because their subject has no session. */
  readonly unknownRefused: boolean
}

function judged(id: ProbeRequestId, facts: ProbeFacts, ground: Ground): ProbeCheck {
  const { title, level, section } = probeRequest(id)
  const answer = facts.answers.get(id)
  const finding = answer === undefined ? unknown(notSent(facts)) : judge(id, answer, facts, ground)
  return {
    ...{ id, title, level, section },
    ...finding,
    status: answer?.kind === 'response' ? answer.status : null,
    durationMs: answer?.durationMs ?? null,
  }
}

const passed = (what: string): Finding => ({ result: 'passed', what, fix: null })
const unknown = (what: string): Finding => ({ result: 'unknown', what, fix: null })
const failed = (what: string, fix: string): Finding => ({ result: 'failed', what, fix })

function judge(id: ProbeRequestId, answer: ProbeAnswer, facts: ProbeFacts, ground: Ground): Finding {
  if (id === 'oversize') return oversize(answer, ground)
  if (probeRequest(id).expects === 'refused') return judgeForged(id, answer, facts, ground)
  return judgeGood(id, answer, facts, ground)
}

function judgeForged(
  id: ProbeRequestId,
  answer: ProbeAnswer,
  { settings }: ProbeFacts,
  { subject }: Ground,
): Finding {
  const { wrong, fix } = probeRequest(id)
  const seen = inWords(answer)
  const verdict = verdictOf(answer)
  if (verdict === 'accepted') return failed(`${wrong} It ${seen}.`, fix)
  if (verdict === 'silent') return unknown(`The answer is not about the token: it ${seen}.`)
  if (saysEnded(answer, settings) && id !== 'replayed')
    return unknown(
      `It ${seen}, an error of curfew.already_ended_errors. This does not show that it verified the token.`,
    )
  if (subject !== null) return passed(`It ${seen}.`)
  return unknown(`It ${seen}. This proves nothing, because it refuses a good token too.`)
}

function judgeGood(id: ProbeRequestId, answer: ProbeAnswer, facts: ProbeFacts, ground: Ground): Finding {
  const { settings, tokenType } = facts
  const { expects, wrong, fix } = probeRequest(id)
  const anyAccepted = ground.subject !== null
  const seen = inWords(answer)
  const verdict = verdictOf(answer)
  if (accepts(answer, settings)) {
    return ground.acceptsAnything
      ? unknown(`It ${seen}. This proves nothing, because it accepts a text that is not a token too.`)
      : passed(`It ${seen}.`)
  }
  if (expects === 'either' && verdict === 'refused' && anyAccepted)
    return passed(`${wrong} ${fix} It ${seen}.`)
  if (verdict === 'silent') return unknown(`The answer is not about the token: it ${seen}.`)
  if (id === 'good_token' && !probeGoesOn(answer))
    return unknown('The address is not an endpoint for back-channel logout.')
  if (ground.unknownRefused)
    return unknown(`It ${seen}, probably because the subject of the token has no session.`)
  if (id === 'good_token' && tokenType !== settings.token_type) {
    const remedy = `Register curfew.token_type ${tokenType}, or let the endpoint accept ${typInWords(settings.token_type)}.`
    return failed(`${wrong} It ${seen}. It accepts the same token with ${typInWords(tokenType)}.`, remedy)
  }
  const mayRefuse = id === 'sub_only' && settings.session_required
  if (mayRefuse && anyAccepted) return passed(`It ${seen}, as backchannel_logout_session_required allows.`)
  if ((isBase(id) && !mayRefuse) || anyAccepted)
    return failed(`${wrong} It ${seen}.`, fixFor(answer, fix, facts))
  return unknown(`It ${seen}. This proves nothing, because it refuses every good token.`)
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

/** The fix for a known text, or for a status that the specification does not have, is more exact than that of the check. */
function fixFor(answer: ProbeAnswer, fix: string, facts: ProbeFacts): string {
  if (answer.kind !== 'response') return fix
  const { status } = answer
  if (status !== 400 && status !== 422 && status < 500) return misconfiguredOf(answer, facts)
  const { algorithm, token_type: tokenType } = facts.settings
  return knownFix({ status, ...errorTextOf(answer) }, { algorithm, tokenType }) ?? fix
}

/** Judges the answer to an oversized token. A closed connection is a refusal, a timeout is not. */
function oversize(answer: ProbeAnswer, { subject }: Ground): Finding {
  const { wrong, fix } = probeRequest('oversize')
  const seen = inWords(answer)
  const cut = answer.kind === 'failure' && answer.failure === 'connection_reset'
  const hangs = answer.kind === 'failure' && answer.failure === 'timeout'
  if (hangs || verdictOf(answer) === 'accepted') return failed(`${wrong} It ${seen}.`, fix)
  if (cut || answer.kind === 'response') {
    return subject !== null || (answer.kind === 'response' && answer.status === 413)
      ? passed(`It ${seen}.`)
      : unknown(`It ${seen}. This proves nothing, because it refuses a good token too.`)
  }
  return unknown(`The answer is not about the token: it ${seen}.`)
}
