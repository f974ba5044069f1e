import {
  type Answer,
  type AttemptOutcome,
  errorTextOf,
  isNotNow,
  unanswered,
  unavailable,
} from '@curfew/domain'
import { ALREADY_ENDED, saysAlreadyEnded } from './already-ended.ts'
import type { BackchannelSettings } from './settings.ts'

/** The outcome of an answer to a back-channel POST (Back-Channel Logout sections 2.5 and 2.8). */
export function outcomeOf(
  answer: Answer,
  now: Date,
  { already_ended_errors: alreadyEnded }: Pick<BackchannelSettings, 'already_ended_errors'>,
): AttemptOutcome {
  if (answer.kind !== 'response') return unanswered(answer)
  const { status } = answer
  if (status === 200 || status === 204) return { kind: 'acknowledged', level: 'done', status }
  if (saysAlreadyEnded(answer, alreadyEnded))
    return { kind: 'acknowledged', level: 'done', status, note: ALREADY_ENDED }
  // In drafts before 2022, 501 meant "logout failed". Later versions use 400 for it.
  if (status === 400 || status === 501) return { kind: 'refused', status, ...errorTextOf(answer) }
  if (isNotNow(status)) return unavailable(answer, now)
  return { kind: 'misconfigured', status, ...errorTextOf(answer) }
}
