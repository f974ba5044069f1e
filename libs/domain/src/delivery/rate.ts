/** A token bucket: the tokens left, and when they were counted. */
export interface Bucket {
  readonly tokens: number
  readonly atMs: number
}

/** The capacity of a bucket, in seconds of its rate. It is small, because an RP that sets a rate wants no bursts. */
const BURST_S = 0.25

/** The capacity of a bucket in tokens. At least one, because a smaller bucket would never let an attempt through. */
export function burstOf(perSecond: number): number {
  return Math.max(1, perSecond * BURST_S)
}

/**
 * Refills a bucket up to `nowMs`. A new bucket is full.
 *
 * @param perSecond tokens added in a second.
 * @param most the capacity of the bucket.
 */
export function refilled(
  bucket: Bucket | null,
  perSecond: number,
  nowMs: number,
  most: number = burstOf(perSecond),
): Bucket {
  if (bucket === null) return { tokens: most, atMs: nowMs }
  const gained = (Math.max(0, nowMs - bucket.atMs) / 1_000) * perSecond
  return { tokens: Math.min(most, bucket.tokens + gained), atMs: nowMs }
}

/**
 * One worker's share of a limit that all workers share. The shares are whole numbers and add up to the limit. The salt decides
 * which workers get the remainder, so that they differ between bindings.
 *
 * @param rank the worker's place among `workers`, from 0.
 * @param salt a number that differs between limits, such as the binding's id.
 */
export function shareOf(
  limit: number,
  { workers, rank }: { workers: number; rank: number },
  salt: number,
): number {
  const place = (rank + salt) % workers
  return Math.floor(limit / workers) + (place < limit % workers ? 1 : 0)
}
