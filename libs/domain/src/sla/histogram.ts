/** Counts by number: by the bucket of a latency, or by tick. Numbers are whole and not negative. */
export type Histogram = ReadonlyMap<number, number>

/** A varint has seven bits in a byte. The eighth bit says that more bytes follow. */
const VARINT_BASE = 0x80

/** The sum of several histograms. */
export function mergeHistograms(histograms: Iterable<Histogram>): Histogram {
  const merged = new Map<number, number>()
  for (const histogram of histograms)
    for (const [number, count] of histogram) merged.set(number, (merged.get(number) ?? 0) + count)
  return merged
}

/** Encodes a histogram as varint pairs of number and count. Concatenated encodings decode to the sum of their histograms. */
export function encodeHistogram(histogram: Histogram): Uint8Array {
  const bytes: number[] = []
  for (const pair of histogram) {
    for (let rest of pair) {
      for (; rest >= VARINT_BASE; rest = Math.floor(rest / VARINT_BASE))
        bytes.push((rest % VARINT_BASE) + VARINT_BASE)
      bytes.push(rest)
    }
  }
  return Uint8Array.from(bytes)
}

/** Decodes one or more concatenated results of `encodeHistogram`. */
export function decodeHistogram(bytes: Uint8Array): Histogram {
  // There may be hundreds of thousands of pairs for a few hundred numbers, for which an array is many times faster than a map.
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
    const number = next()
    counts[number] = (counts[number] ?? 0) + next()
  }
  const histogram = new Map<number, number>()
  // forEach skips holes of the array.
  counts.forEach((count, number) => void histogram.set(number, count))
  return histogram
}
