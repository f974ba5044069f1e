/**
 * The cause of a job's failure.
 * - `passing`: a database or an event log is unavailable, or an operator must first correct something, such as a key.
 * - `data`: the database refused a value, and will refuse it again.
 * - `other`: any other cause, such as a release that does not match the schema.
 */
export type JobFault = 'passing' | 'data' | 'other'

/** Repeated failures of a job at the same place. */
export interface RepeatedFailure {
  readonly fault: JobFault
  /** Consecutive tries that failed. */
  readonly tries: number
  /** Time since the first of them, in milliseconds. */
  readonly forMs: number
}

const TRIES_MIN = 5
const DATA_MS = 60_000
/** Operators replace a faulty release within an hour. */
const OTHER_MS = 3_600_000
const PAUSE_MS = { first: 1_000, max: 60_000 }

/** Whether a job that fails repeatedly ends as `failed`. A passing fault never ends a job. */
export function endsAsFailed({ fault, tries, forMs }: RepeatedFailure): boolean {
  if (fault === 'passing' || tries < TRIES_MIN) return false
  return forMs >= (fault === 'data' ? DATA_MS : OTHER_MS)
}

/** The pause before the next try, in milliseconds. */
export function retryPauseMs({ fault, tries }: Pick<RepeatedFailure, 'fault' | 'tries'>): number {
  if (fault === 'passing') return PAUSE_MS.first
  return Math.min(PAUSE_MS.first * 2 ** Math.min(tries - 1, 10), PAUSE_MS.max)
}
