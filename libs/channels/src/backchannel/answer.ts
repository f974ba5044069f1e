import { type Answer, type AttemptOutcome, failureOf } from '@curfew/domain'
import { ALREADY_ENDED, saysAlreadyEnded } from './already-ended.ts'
import type { BackchannelSettings } from './settings.ts'

/** In drafts before 2022, 501 meant "logout failed". Later versions use 400 for it. */
const REFUSALS = [400, 501]

/** The outcome of an answer to a back-channel POST (Back-Channel Logout sections 2.5 and 2.8). */
export function outcomeOf(
  answer: Answer,
  now: Date,
  { already_ended_errors: alreadyEnded }: Pick<BackchannelSettings, 'already_ended_errors'>,
): AttemptOutcome {
  if (answer.kind !== 'response') return failureOf(answer, now, REFUSALS)
  const { status } = answer
  if (status === 200 || status === 204) return { kind: 'acknowledged', level: 'done', status }
  if (saysAlreadyEnded(answer, alreadyEnded))
    return { kind: 'acknowledged', level: 'done', status, note: ALREADY_ENDED }
  return failureOf(answer, now, REFUSALS)
}
