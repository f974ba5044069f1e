/** The delays between attempts. A relying party may have its own policy. */
export interface RetryPolicy {
  /** Delays after `unavailable` outcomes, in milliseconds. At the end of the schedule the delivery becomes a dead letter. */
  readonly scheduleMs: readonly number[]
  /** Delays after refusals, in milliseconds. A few, because a refusal may pass (a stale JWKS, an unavailable session store). */
  readonly refusedScheduleMs: readonly number[]
  /** The longest `Retry-After` that is obeyed, in milliseconds. */
  readonly retryAfterMsMax: number
  /** The largest random change of a delay, as a fraction of it, 0 to 1. */
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

/** The length of the whole schedule, in milliseconds. After it, a delivery that was never attempted becomes a dead letter. */
export function horizonMs({ scheduleMs }: RetryPolicy): number {
  return Math.max(
    HORIZON_MS_MIN,
    scheduleMs.reduce((sum, delayMs) => sum + delayMs, 0),
  )
}

const HORIZON_MS_MIN = HOUR

/** Delays of the two quick retries after a first attempt, in the same process, in milliseconds, before jitter. */
export const QUICK_RETRIES_MS = [250, 1_000] as const

/** Changes `delayMs` by a random fraction of up to `jitter`. @param random uniform in [0, 1). */
export function jittered(delayMs: number, jitter: number, random: number): number {
  return Math.round(delayMs * (1 + jitter * (2 * random - 1)))
}

/**
 * The delay before the next attempt after an `unavailable` outcome, in milliseconds; null at the end of the schedule.
 *
 * @param retries steps of the schedule used before. @param askedMs the peer's `Retry-After`. @param random uniform in [0, 1).
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

/** Parses both forms of `Retry-After` (RFC 9110 10.2.3) to milliseconds. Null if it is absent, invalid or in the past. */
export function parseRetryAfter(value: string | null, now: Date): number | null {
  if (value === null) return null
  if (/^\d{1,12}$/.test(value)) return Number(value) * SECOND
  if (!HTTP_DATE.test(value)) return null
  const waitMs = Date.parse(value) - now.getTime()
  return waitMs > 0 ? waitMs : null
}
