/** A token bucket: what is left of a rate, and as of when. */
export interface Bucket {
  readonly tokens: number
  readonly atMs: number
}

/** What is saved up at most, in seconds of the rate: little, for an RP that asks for a rate wants no bursts. */
const BURST_S = 0.25

/** Most that a rate lets through at once. One at least, or nothing ever went. */
export function burstOf(perSecond: number): number {
  return Math.max(1, perSecond * BURST_S)
}

/**
 * The bucket as it stands at `nowMs`. A new one is full.
 *
 * @param perSecond tokens that come in a second.
 * @param most tokens that it holds.
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
 * What one of several workers may have of a limit that is for all of them, so that the parts make up the whole: whole
 * units where it is many, and who gets the odd ones differs from one binding to the next.
 *
 * @param rank the worker's place among `workers`, from 0.
 * @param salt differs between limits, such as the binding's number.
 */
export function shareOf(
  limit: number,
  { workers, rank }: { workers: number; rank: number },
  salt: number,
): number {
  const place = (rank + salt) % workers
  return Math.floor(limit / workers) + (place < limit % workers ? 1 : 0)
}
