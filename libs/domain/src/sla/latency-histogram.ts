/** How often something took how long: counts by bucket, each bucket a fixed ratio wider than the one before (as DDSketch has it). */
export type LatencyHistogram = ReadonlyMap<number, number>

/** How far a percentile may lie from the true one, as a share of it. */
export const LATENCY_ERROR = 0.02

const RATIO = (1 + LATENCY_ERROR) / (1 - LATENCY_ERROR)
const LOG_RATIO = Math.log(RATIO)
/** Varints are of seven bits to a byte; the eighth says that more follow. */
const VARINT_BASE = 0x80

/** The bucket of a latency in milliseconds. What took less than one is in the first. */
export function latencyBucket(ms: number): number {
  return ms <= 1 ? 0 : Math.ceil(Math.log(ms) / LOG_RATIO)
}

/** What stands for all of a bucket, in milliseconds: within `LATENCY_ERROR` of each that is above 1 ms. */
function latencyOf(bucket: number): number {
  return bucket === 0 ? 1 : (2 * RATIO ** bucket) / (RATIO + 1)
}

/** The sum of several. */
export function mergeLatencies(histograms: Iterable<LatencyHistogram>): LatencyHistogram {
  const merged = new Map<number, number>()
  for (const histogram of histograms)
    for (const [bucket, count] of histogram) merged.set(bucket, (merged.get(bucket) ?? 0) + count)
  return merged
}

/**
 * The latency in milliseconds that the share `q` (0 to 1) of all does not exceed, by the nearest rank; within
 * `LATENCY_ERROR` of the true one, or 1 ms where that is less. Null without any.
 */
export function latencyQuantile(histogram: LatencyHistogram, q: number): number | null {
  let left = Math.max(1, Math.ceil(q * [...histogram.values()].reduce((sum, count) => sum + count, 0)))
  for (const [bucket, count] of [...histogram].sort(([a], [b]) => a - b)) {
    left -= count
    if (left <= 0) return latencyOf(bucket)
  }
  return null
}

/** A histogram in a few bytes: pairs of bucket and count as varints. Several, one after the other, are their sum. */
export function encodeLatencies(histogram: LatencyHistogram): Uint8Array {
  const bytes: number[] = []
  for (const [bucket, count] of histogram) {
    for (let rest of [bucket, count]) {
      for (; rest >= VARINT_BASE; rest = Math.floor(rest / VARINT_BASE))
        bytes.push((rest % VARINT_BASE) + VARINT_BASE)
      bytes.push(rest)
    }
  }
  return Uint8Array.from(bytes)
}

/** Reads what `encodeLatencies` wrote, or several of these one after the other. */
export function decodeLatencies(bytes: Uint8Array): LatencyHistogram {
  // There may be hundreds of thousands of pairs, of a few hundred buckets: an array is many times faster than a map.
  const counts: number[] = []
  let at = 0
  const next = () => {
    let byte = bytes[at++] ?? 0
    let value = byte % VARINT_BASE
    for (let weight = VARINT_BASE; byte >= VARINT_BASE; weight *= VARINT_BASE) {
      byte = bytes[at++] ?? 0
      value += (byte % VARINT_BASE) * weight
    }
    return value
  }
  while (at < bytes.length) {
    const bucket = next()
    counts[bucket] = (counts[bucket] ?? 0) + next()
  }
  const histogram = new Map<number, number>()
  // Holes are passed over.
  counts.forEach((count, bucket) => void histogram.set(bucket, count))
  return histogram
}
