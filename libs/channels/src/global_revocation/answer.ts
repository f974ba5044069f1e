import { type Answer, type AttemptOutcome, failureOf, unavailable } from '@curfew/domain'
import type { GlobalRevocationSettings } from './settings.ts'

const REFUSALS = [400, 422]

/**
 * The outcome of an answer to a revocation request (Global Token Revocation section 3.4).
 *
 * @param tried number of earlier attempts.
 */
export function outcomeOf(
  answer: Answer,
  { success, unknown_user }: Pick<GlobalRevocationSettings, 'success' | 'unknown_user'>,
  { now, tried }: { readonly now: Date; readonly tried: number },
): AttemptOutcome {
  if (answer.kind !== 'response') return failureOf(answer, now, REFUSALS)
  const { status } = answer
  if (success.includes(status)) return { kind: 'acknowledged', level: 'begun', status }
  if (status === 404 && unknown_user === 'acknowledged')
    return { kind: 'acknowledged', level: 'begun', status, note: 'unknown_user' }
  // The next attempt has a new credential, which a receiver accepts once it has fetched the new key.
  if (status === 401 && tried === 0) return unavailable(answer, now)
  return failureOf(answer, now, REFUSALS)
}
