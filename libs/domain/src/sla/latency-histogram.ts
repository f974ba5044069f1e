import type { Histogram } from './histogram.ts'

// Latencies as a histogram: counts by bucket. A bucket is wider than the one before by a fixed ratio, as in DDSketch.

/** The largest relative error of a percentile. */
export const LATENCY_ERROR = 0.02

const RATIO = (1 + LATENCY_ERROR) / (1 - LATENCY_ERROR)
const LOG_RATIO = Math.log(RATIO)

/** The bucket of a latency in milliseconds. Latencies up to 1 ms are in the first bucket. */
export function latencyBucket(ms: number): number {
  return ms <= 1 ? 0 : Math.ceil(Math.log(ms) / LOG_RATIO)
}

/** The representative latency of a bucket, in milliseconds: within `LATENCY_ERROR` of all its latencies above 1 ms. */
function latencyOf(bucket: number): number {
  return bucket === 0 ? 1 : (2 * RATIO ** bucket) / (RATIO + 1)
}

/**
 * The `q` quantile (0 to 1) in milliseconds, by the nearest rank; null without latencies. It is within `LATENCY_ERROR` of the
 * true value. A true value below 1 ms gives 1 ms.
 */
export function latencyQuantile(histogram: Histogram, q: number): number | null {
  let left = Math.max(1, Math.ceil(q * [...histogram.values()].reduce((sum, count) => sum + count, 0)))
  for (const [bucket, count] of [...histogram].sort(([a], [b]) => a - b)) {
    left -= count
    if (left <= 0) return latencyOf(bucket)
  }
  return null
}
