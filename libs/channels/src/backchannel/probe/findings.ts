import { NETWORK, saidOf } from '@curfew/domain'
import type { ProbeCheck } from '../../probe-report.ts'
import { misconfiguredFix } from '../words.ts'
import { fateOf, inWords, type ProbeFacts, probeGoesOn, takenSubject } from './facts.ts'
import { type ProbeAnswer, sameButForNames } from './probe.ts'
import { PROBE_REQUEST_IDS, type ProbeRequestId, probeRequest } from './requests.ts'

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
export function probeFindings(facts: ProbeFacts, anyTaken: boolean): readonly ProbeCheck[] {
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
