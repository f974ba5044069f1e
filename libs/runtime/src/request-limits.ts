import { type Bucket, refilled } from '@curfew/domain'
import type { Credential } from './credentials.ts'

/** Keeps each credential to its rate, in this process. */
export interface RequestLimits {
  /** Counts one request. @returns milliseconds to wait first where it is one too many; else 0. */
  take(credential: Pick<Credential, 'name' | 'requestsPerSecond'>): number
}

/** What may come at once, in seconds of the rate, and the least: a page of the console asks for a dozen things together. */
const BURST_S = 2
const BURST_MIN = 20
/** Most credentials that are remembered. Who is forgotten begins anew with a full bucket. */
const REMEMBERED_MAX = 10_000

/** @param perSecond for credentials that have no rate of their own; null: as many as they like. */
export function createRequestLimits({
  perSecond,
  monotonicMs,
}: {
  perSecond: number | null
  monotonicMs: () => number
}): RequestLimits {
  const buckets = new Map<string, Bucket>()
  return {
    take({ name, requestsPerSecond }) {
      const rate = requestsPerSecond ?? perSecond
      if (rate === null) return 0
      const most = Math.max(BURST_MIN, rate * BURST_S)
      const bucket = refilled(buckets.get(name) ?? null, rate, monotonicMs(), most)
      // Put back at the end, so that the first is who has been silent the longest.
      buckets.delete(name)
      const tokens = bucket.tokens < 1 ? bucket.tokens : bucket.tokens - 1
      buckets.set(name, { ...bucket, tokens })
      const [oldest] = buckets.keys()
      if (buckets.size > REMEMBERED_MAX && oldest !== undefined) buckets.delete(oldest)
      return bucket.tokens < 1 ? Math.ceil(((1 - bucket.tokens) / rate) * 1_000) : 0
    },
  }
}
