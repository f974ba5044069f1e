import type { ProbeCheck } from './probe-report.ts'

// The part of a probe that names a real session. Only the owner of the relying party can see whether the session is over.

/** Whether the session is over, by the word of the owner. */
export const SESSION_OVER = ['yes', 'no', 'unknown'] as const
export type SessionOver = (typeof SESSION_OVER)[number]

/** The real session that a probe names. */
export interface ProbedSession {
  readonly sub: string | null
  readonly sid: string | null
}

/** The answer to the token for the real session. */
export interface SessionAnswer {
  /** The claims that named the session. The report has no values, because it outlives an erasure of the subject. */
  readonly named: readonly ('sub' | 'sid')[]
  /** The id of the token, for a search in the log of the relying party. */
  readonly jti: string
  readonly status: number | null
  readonly durationMs: number
  /** The answer in words, as the rest of a sentence that begins with "It". */
  readonly answer: string
  /** `already_ended`: acknowledged by an error of `curfew.already_ended_errors`. */
  readonly meaning: 'acknowledged' | 'already_ended' | 'refused' | 'silent'
}

const FIND =
  'Find the session by iss and sid, or by iss and sub, as they were in its ID token, and end it before the answer. Frequent reasons are another stored sid or sub, a session that is only in a cookie, and a session store that other processes do not share.'

/** Judges the answer to the token for a real session. */
export function sessionCheck(session: SessionAnswer, over: SessionOver): ProbeCheck {
  return {
    ...{ id: 'session_over', title: 'ends the session that a token names', level: 'must' },
    ...{ section: 'Back-Channel Logout 2.7', status: session.status, durationMs: session.durationMs },
    ...judge(session, over),
  }
}

function judge(
  { meaning, answer }: Pick<SessionAnswer, 'meaning' | 'answer'>,
  over: SessionOver,
): Pick<ProbeCheck, 'result' | 'what' | 'fix'> {
  const seen = `It ${answer} to a token for a real session`
  if (meaning === 'silent')
    return { result: 'unknown', what: `The answer is not about the token: it ${answer}.`, fix: null }
  if (meaning === 'refused') {
    const what = `${seen}${over === 'unknown' ? '' : `, and its owner says that the session is ${over === 'yes' ? 'over' : 'not over'}`}.`
    return {
      result: 'failed',
      what,
      fix: 'Answer 200 to a logout that ended the session. Find the reason of the refusal in its log.',
    }
  }
  if (over === 'no') {
    const what = `${seen}, but its owner says that the session is not over.`
    const remove =
      meaning === 'already_ended'
        ? 'Remove the error from curfew.already_ended_errors, because it hides lost logouts. '
        : ''
    return { result: 'failed', what, fix: `${remove}${FIND}` }
  }
  if (meaning === 'already_ended') {
    const what = `${seen}: an error of curfew.already_ended_errors. Name a session that is live before the probe.`
    return { result: 'unknown', what, fix: null }
  }
  if (over === 'yes')
    return { result: 'passed', what: `${seen}, and its owner says that the session is over.`, fix: null }
  return {
    result: 'unknown',
    what: `${seen}. Only its owner can see whether the session is over: look there, and store the answer with: curfew rp probe CLIENT_ID --over yes (or no).`,
    fix: null,
  }
}
