import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { decodeHistogram, encodeHistogram, type Histogram, mergeHistograms } from './histogram.ts'
import { LATENCY_ERROR, latencyBucket, latencyQuantile } from './latency-histogram.ts'

// Goal: percentiles are within the stated error, for any merged histograms, and the encoding loses nothing.
// Method: properties against sorted lists of the latencies.

const latencies = fc.array(
  fc.oneof(fc.integer({ min: -5, max: 100 }), fc.integer({ min: 0, max: 5_000_000_000 })),
  {
    maxLength: 200,
  },
)

function histogramOf(all: readonly number[]): Histogram {
  return mergeHistograms(all.map((ms) => new Map([[latencyBucket(ms), 1]])))
}

test('a percentile is within the error of the true one', () => {
  fc.assert(
    fc.property(latencies, fc.double({ min: 0, max: 1, noNaN: true }), (all, share) => {
      const found = latencyQuantile(histogramOf(all), share)
      const sorted = all.map((ms) => Math.max(1, ms)).sort((a, b) => a - b)
      const exact = sorted[Math.max(0, Math.ceil(share * all.length) - 1)]
      if (exact === undefined) expect(found).toBeNull()
      else expect(Math.abs((found ?? 0) - exact)).toBeLessThanOrEqual(exact * LATENCY_ERROR * (1 + 1e-9))
    }),
  )
})

describe('the encoding', () => {
  test('decodes to the same histogram, and several concatenated ones to their sum', () => {
    fc.assert(
      fc.property(fc.array(latencies, { maxLength: 5 }), (parts) => {
        const histograms = parts.map(histogramOf)
        const bytes = histograms.flatMap((histogram) => [...encodeHistogram(histogram)])
        expect(decodeHistogram(Uint8Array.from(bytes))).toEqual(mergeHistograms(histograms))
      }),
    )
  })

  test('supports counts of any size', () => {
    const histogram = new Map([
      [0, 127],
      [127, 128],
      [700, 2 ** 40],
    ])
    expect(decodeHistogram(encodeHistogram(histogram))).toEqual(histogram)
  })
})
