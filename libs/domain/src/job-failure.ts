/**
 * What a job failed at. `passing`: a database or an event log is unavailable, or a person has to mend something first, such as a
 * key. `data`: a value was refused, and will be again. `other`: anything else, such as a release that does not fit the schema.
 */
export type JobFault = 'passing' | 'data' | 'other'

/** A job that fails at the same place. */
export interface Stuck {
  readonly fault: JobFault
  /** Tries in a row that failed there. */
  readonly tries: number
  /** Since the first of them, in milliseconds. */
  readonly forMs: number
}

const TRIES_MIN = 5
const DATA_MS = 60_000
/** A release is replaced within the hour. */
const OTHER_MS = 3_600_000
const PAUSE_MS = { first: 1_000, max: 60_000 }

/** Whether a job that fails at the same place ends as failed. What passes by itself never ends one. */
export function endsAsFailed({ fault, tries, forMs }: Stuck): boolean {
  if (fault === 'passing' || tries < TRIES_MIN) return false
  return forMs >= (fault === 'data' ? DATA_MS : OTHER_MS)
}

/** How long to wait before the next try, in milliseconds. */
export function retryPauseMs({ fault, tries }: Pick<Stuck, 'fault' | 'tries'>): number {
  if (fault === 'passing') return PAUSE_MS.first
  return Math.min(PAUSE_MS.first * 2 ** Math.min(tries - 1, 10), PAUSE_MS.max)
}
