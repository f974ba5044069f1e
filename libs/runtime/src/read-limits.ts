import { ProblemError } from './problem.ts'
import { createTurns } from './turns.ts'

/** Limits concurrent reads, of one caller and of all, to leave room for other work. More reads wait in memory, for a while. */
export interface ReadLimits {
  /**
   * Runs one read when there is room for it.
   *
   * @param caller the credential or address whose limit applies.
   * @param read receives a function that frees its place among all callers and keeps its place with its own caller.
   * @throws {ProblemError} 429 when the caller has too many reads, 503 when all callers together do.
   */
  run<Result>(caller: string, read: (freeShared: () => void) => Promise<Result>): Promise<Result>
}

export interface ReadLimitsOptions {
  /** Most reads of one caller that run at once. Default 2. */
  readonly perCaller?: number
  /** Most reads of one caller that wait. Default 16: a page of the console sends a dozen requests together. */
  readonly waitingPerCaller?: number
  /**
   * Most reads that run at once. Default 3: far fewer than the connections of their pool, because reads share processors with
   * logouts.
   */
  readonly atOnce?: number
  /** Most reads that wait. Default 1,000. */
  readonly waiting?: number
  /** Longest wait, in milliseconds. Default 5,000. */
  readonly waitMs?: number
  /** How long a shared place stays empty after a read of this duration. Default: nine times as long, at most a second. */
  readonly restMs?: (tookMs: number) => number
}

const RETRY_AFTER_S = 2
/** A read of at most this duration delays no other work. */
const QUICK_MS = 1
/** Slow reads at their limit then take less than one processor and leave the others to logouts. */
const REST_TIMES = 9
const REST_MS_MAX = 1_000

const restAfter = (tookMs: number) => Math.min(REST_MS_MAX, Math.max(0, tookMs - QUICK_MS) * REST_TIMES)

export function createReadLimits(options: ReadLimitsOptions = {}): ReadLimits {
  const { perCaller = 2, waitingPerCaller = 16, atOnce = 3, restMs = restAfter } = options
  return createTurns({
    ...options,
    ...{ perCaller, waitingPerCaller, atOnce, restMs },
    refusal: (why) =>
      why === 'caller'
        ? tooMany(429, 'This credential or address has too many reads')
        : tooMany(503, 'All callers together have too many reads'),
  })
}

function tooMany(status: 429 | 503, what: string): ProblemError {
  return new ProblemError({
    status,
    title: 'Too many reads at once',
    detail: `${what} at once. Try again in a moment, with fewer requests at a time.`,
    headers: { 'retry-after': String(RETRY_AFTER_S) },
  })
}
