/** When an attempt is repeated. Each relying party may have its own. */
export interface RetryPolicy {
  /** Delays after which what was unavailable is tried again, in milliseconds. At the end of it the delivery dies. */
  readonly scheduleMs: readonly number[]
  /** Delays after a refusal, in milliseconds: few, for the answer may be a fault that passes (a stale JWKS, a store down). */
  readonly refusedScheduleMs: readonly number[]
  /** Most of a `Retry-After` that is obeyed, in milliseconds. */
  readonly retryAfterMsMax: number
  /** Fraction of a delay by which it is shortened or lengthened at random, 0 to 1. */
  readonly jitter: number
}

const SECOND = 1_000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE

export const DEFAULT_RETRY_POLICY: RetryPolicy = {
  scheduleMs: [
    5 * SECOND,
    30 * SECOND,
    2 * MINUTE,
    10 * MINUTE,
    30 * MINUTE,
    HOUR,
    3 * HOUR,
    6 * HOUR,
    12 * HOUR,
  ],
  refusedScheduleMs: [30 * SECOND, 150 * SECOND, 7 * MINUTE],
  retryAfterMsMax: HOUR,
  jitter: 0.1,
}

/** How long the whole schedule lasts, in milliseconds: after it a delivery that nobody could even try is given up on. */
export function horizonMs({ scheduleMs }: RetryPolicy): number {
  return Math.max(
    HORIZON_MS_MIN,
    scheduleMs.reduce((sum, delayMs) => sum + delayMs, 0),
  )
}

const HORIZON_MS_MIN = HOUR

/** Delays of the two quick retries that follow a first attempt in the same process, in milliseconds, before jitter. */
export const QUICK_RETRIES_MS = [250, 1_000] as const

/** `delayMs`, shortened or lengthened by up to `jitter` of itself. @param random uniform in [0, 1). */
export function jittered(delayMs: number, jitter: number, random: number): number {
  return Math.round(delayMs * (1 + jitter * (2 * random - 1)))
}

/**
 * How long what was unavailable waits for its next attempt, in milliseconds; null at the end of the schedule.
 *
 * @param retries waits before this one. @param askedMs the peer's `Retry-After`. @param random uniform in [0, 1).
 */
export function retryDelayMs(
  { scheduleMs, jitter, retryAfterMsMax }: RetryPolicy,
  { retries, askedMs, random }: { retries: number; askedMs: number | null; random: number },
): number | null {
  const delayMs = scheduleMs[retries]
  if (delayMs === undefined) return null
  return Math.max(jittered(delayMs, jitter, random), Math.min(askedMs ?? 0, retryAfterMsMax))
}

const HTTP_DATE = /^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT$/

/** Reads `Retry-After` in both its forms (RFC 9110 10.2.3). Null when absent, unreadable or in the past. */
export function parseRetryAfter(value: string | null, now: Date): number | null {
  if (value === null) return null
  if (/^\d{1,12}$/.test(value)) return Number(value) * SECOND
  if (!HTTP_DATE.test(value)) return null
  const waitMs = Date.parse(value) - now.getTime()
  return waitMs > 0 ? waitMs : null
}
