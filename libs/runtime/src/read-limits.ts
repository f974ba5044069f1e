import { ProblemError } from './problem.ts'
import { createTurns } from './turns.ts'

/** Keeps reads from taking all of a process: so many at once, by caller and together. The others wait in memory, a while. */
export interface ReadLimits {
  /**
   * Does the work of one read when there is room for it.
   *
   * @param caller whose limit it counts against: a credential, or an address.
   * @param read gets a function that frees its place among all callers, and keeps the one of its own caller.
   * @throws {ProblemError} 429 where the caller has too many reads, 503 where all callers together do.
   */
  run<Result>(caller: string, read: (freeShared: () => void) => Promise<Result>): Promise<Result>
}

export interface ReadLimitsOptions {
  /** Most reads of one caller that run at once. Default 2. */
  readonly ofCaller?: number
  /** Most reads of one caller that wait. A page of the console asks for a dozen things together. Default 16. */
  readonly waitingOfCaller?: number
  /**
   * Most reads that run at once. Far fewer than the pool that they read from has connections, for they share processors with
   * logouts. Default 3.
   */
  readonly atOnce?: number
  /** Most reads that wait. Default 1,000. */
  readonly waiting?: number
  /** Longest wait, in milliseconds. Default 5,000. */
  readonly waitMs?: number
  /** How long a place among all rests after a read that took so long. Default: nine times as long after a slow one, at most a second. */
  readonly restMs?: (tookMs: number) => number
}

const RETRY_AFTER_S = 2
/** A read that takes no longer is none that anybody waits behind. */
const QUICK_MS = 1
/** So that slow reads at their limit take less than one processor, and logouts have the others. */
const REST_TIMES = 9
const REST_MS_MAX = 1_000

const restAfter = (tookMs: number) => Math.min(REST_MS_MAX, Math.max(0, tookMs - QUICK_MS) * REST_TIMES)

export function createReadLimits(options: ReadLimitsOptions = {}): ReadLimits {
  const { ofCaller = 2, waitingOfCaller = 16, atOnce = 3, restMs = restAfter } = options
  return createTurns({
    ...options,
    ...{ ofCaller, waitingOfCaller, atOnce, restMs },
    refusal: (why) =>
      why === 'caller'
        ? tooMany(429, 'This credential or address reads too much')
        : tooMany(503, 'Too much is read'),
  })
}

function tooMany(status: 429 | 503, what: string): ProblemError {
  return new ProblemError({
    status,
    title: 'Too many reads at once',
    detail: `${what} at once. Ask again in a moment, with fewer requests at a time.`,
    headers: { 'retry-after': String(RETRY_AFTER_S) },
  })
}
