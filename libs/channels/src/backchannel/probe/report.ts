import type { ProbeCheck, ProbeReport, ProbeResult } from '../../probe-report.ts'
import { misconfiguredFix } from '../words.ts'
import { fateOf, inWords, type ProbeFacts, probeGoesOn, takes } from './facts.ts'
import { probeFindings } from './findings.ts'
import type { ProbeAnswer } from './probe.ts'
import { PROBE_REQUEST_IDS, type ProbeRequestId, probeRequest } from './requests.ts'
import { probeSuggestions } from './suggestions.ts'

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
