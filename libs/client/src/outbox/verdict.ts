import type { Problem } from '@curfew/contract'
import { ApiError, isForeign } from '../client.ts'

// Pure decisions of the outbox.

/** The limits of the wait after a failure. Curfew is asked again within ten seconds after it is available. */
const FIRST_WAIT_MS = 250
const WAIT_MS_MAX = 10_000
/** The longest `Retry-After` that is honoured. */
const RETRY_AFTER_MS_MAX = 3_600_000

/**
 * Whether a refusal is about the event itself, so that the same post would be refused again. All other refusals are about the key, the
 * URL, a proxy or the moment, and pass.
 */
export function isAboutEvent(error: ApiError): boolean {
  const { status, problem } = error
  // A proxy may have a limit of its own. A body that is too large stays too large.
  if (status === 413) return true
  if (isForeign(error)) return false
  // Without a pointer the key lacks a right, which an operator can give it.
  if (status === 403) return (problem.errors ?? []).some(({ pointer }) => pointer !== '')
  return status === 400 || status === 409 || status === 422
}

/** Whether the only fault of the event is its time: the clock of this machine is ahead. */
export function isAboutTime({ status, errors = [] }: Problem): boolean {
  return (
    status === 400 && errors.length > 0 && errors.every(({ pointer }) => pointer.endsWith('/occurred_at'))
  )
}

/**
 * The time until the next try, in milliseconds: exponential with jitter, and never before `Retry-After`.
 *
 * @param failures the number of failures in a row, from 1.
 * @param random at least 0 and below 1.
 */
export function waitMs(failures: number, random: number, error: unknown): number {
  const longest = Math.min(FIRST_WAIT_MS * 2 ** (failures - 1), WAIT_MS_MAX)
  return Math.max(longest / 2 + (longest / 2) * random, retryAfterMs(error))
}

/** The `Retry-After` of an answer, within limits, or 0. */
export function retryAfterMs(error: unknown): number {
  return error instanceof ApiError ? Math.min(error.retryAfterMs ?? 0, RETRY_AFTER_MS_MAX) : 0
}
