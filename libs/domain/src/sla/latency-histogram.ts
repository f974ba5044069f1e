/** A latency histogram: counts by bucket. A bucket is wider than the one before by a fixed ratio, as in DDSketch. */
export type LatencyHistogram = ReadonlyMap<number, number>

/** The largest relative error of a percentile. */
export const LATENCY_ERROR = 0.02

const RATIO = (1 + LATENCY_ERROR) / (1 - LATENCY_ERROR)
const LOG_RATIO = Math.log(RATIO)
/** A varint has seven bits in a byte. The eighth bit says that more bytes follow. */
const VARINT_BASE = 0x80

/** The bucket of a latency in milliseconds. Latencies up to 1 ms are in the first bucket. */
export function latencyBucket(ms: number): number {
  return ms <= 1 ? 0 : Math.ceil(Math.log(ms) / LOG_RATIO)
}

/** The representative latency of a bucket, in milliseconds: within `LATENCY_ERROR` of all its latencies above 1 ms. */
function latencyOf(bucket: number): number {
  return bucket === 0 ? 1 : (2 * RATIO ** bucket) / (RATIO + 1)
}

/** The sum of several histograms. */
export function mergeLatencies(histograms: Iterable<LatencyHistogram>): LatencyHistogram {
  const merged = new Map<number, number>()
  for (const histogram of histograms)
    for (const [bucket, count] of histogram) merged.set(bucket, (merged.get(bucket) ?? 0) + count)
  return merged
}

/**
 * The `q` quantile (0 to 1) in milliseconds, by the nearest rank; null without latencies. It is within `LATENCY_ERROR` of the
 * true value. A true value below 1 ms gives 1 ms.
 */
export function latencyQuantile(histogram: LatencyHistogram, q: number): number | null {
  let left = Math.max(1, Math.ceil(q * [...histogram.values()].reduce((sum, count) => sum + count, 0)))
  for (const [bucket, count] of [...histogram].sort(([a], [b]) => a - b)) {
    left -= count
    if (left <= 0) return latencyOf(bucket)
  }
  return null
}

/** Encodes a histogram as varint pairs of bucket and count. Concatenated encodings decode to the sum of their histograms. */
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

/** Decodes one or more concatenated results of `encodeLatencies`. */
export function decodeLatencies(bytes: Uint8Array): LatencyHistogram {
  // There may be hundreds of thousands of pairs for a few hundred buckets, for which an array is many times faster than a map.
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
  // forEach skips holes of the array.
  counts.forEach((count, bucket) => void histogram.set(bucket, count))
  return histogram
}
