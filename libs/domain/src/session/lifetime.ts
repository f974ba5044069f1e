import type { Session } from './session.ts'

/**
 * How long the ended sessions of one client lasted: the number of sessions by bucket. A bucket is wider than the one before by a
 * fixed ratio, as in the latency histogram. The numbers are fractions once the histogram was halved.
 */
export type Lifetimes = readonly number[]

/** The number of buckets. The last one also has every longer lifetime, which is more than ten years. */
export const LIFETIME_BUCKETS = 80

const RATIO = 1.22
const LOG_RATIO = Math.log(RATIO)
const MINUTE_MS = 60_000
const HOUR_MS = 3_600_000

/** The ended sessions without which nothing is normal for a client. */
const EVIDENCE_MIN = 100
/** The sessions from which on a histogram is halved, so that it follows a change within some thousands of sessions. */
const HALVED_FROM = 4_000
/** The share of a client's sessions that are over within its normal lifetime. */
const NORMAL_SHARE = 0.99
/** A session is overlong after this many normal lifetimes. */
const OVERLONG_FACTOR = 3

/**
 * The bucket of the lifetime of a session; null if it says nothing about normal lifetimes: the session ended before it began, by
 * clocks that differ, or after its own end.
 */
export function lifetimeBucket(
  { startedAt, expiresAt }: Pick<Session, 'startedAt' | 'expiresAt'>,
  endedAt: Date,
): number | null {
  const ms = endedAt.getTime() - startedAt.getTime()
  if (!(ms > 0) || (expiresAt !== null && expiresAt <= endedAt)) return null
  const bucket = ms <= MINUTE_MS ? 0 : Math.ceil(Math.log(ms / MINUTE_MS) / LOG_RATIO)
  return Math.min(bucket, LIFETIME_BUCKETS - 1)
}

/**
 * The age from which on a session is overlong, in milliseconds: three times the 99th percentile of the lifetimes, and at least
 * an hour above it. It is never too short, and at most a quarter too long, because the percentile is the upper end of its bucket.
 *
 * @param expiries the sessions that ran into their own end. While they outnumber the ended ones, it is normal for the client that a session
 * expires, and the few that end early say nothing about its lifetime.
 * @returns null if there is too little evidence.
 */
export function overlongAfterMs(lifetimes: Lifetimes, expiries: number): number | null {
  const sessions = sessionsIn(lifetimes)
  if (sessions < EVIDENCE_MIN || expiries > sessions) return null
  let left = sessions * NORMAL_SHARE
  let bucket = -1
  while (left > 0 && bucket < LIFETIME_BUCKETS - 1) left -= lifetimes[++bucket] ?? 0
  const normalMs = MINUTE_MS * RATIO ** bucket
  return Math.ceil(Math.max(normalMs * OVERLONG_FACTOR, normalMs + HOUR_MS))
}

/** Whether there are so many sessions, ended or expired, that each number is to be halved. */
export function isToBeHalved(lifetimes: Lifetimes, expiries: number): boolean {
  return sessionsIn(lifetimes) + expiries >= HALVED_FROM
}

function sessionsIn(lifetimes: Lifetimes): number {
  return lifetimes.reduce((sum, count) => sum + count, 0)
}
