import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { burstOf, refilled, shareOf } from './rate.ts'

// Goal: a rate limit holds over time and across workers.
// Method: properties.

describe('a bucket', () => {
  test('lets through no more than its rate and one burst, for any sequence of pauses', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0.01, max: 1_000, noNaN: true }),
        fc.array(fc.integer({ min: 0, max: 2_000 }), { maxLength: 50 }),
        (perSecond, pausesMs) => {
          let bucket = refilled(null, perSecond, 0)
          let nowMs = 0
          let passed = 0
          for (const pauseMs of pausesMs) {
            nowMs += pauseMs
            bucket = refilled(bucket, perSecond, nowMs)
            while (bucket.tokens >= 1) {
              bucket = { ...bucket, tokens: bucket.tokens - 1 }
              passed += 1
            }
          }
          expect(passed).toBeLessThanOrEqual(burstOf(perSecond) + (nowMs / 1_000) * perSecond + 1e-6)
        },
      ),
    )
  })

  test('with a rate below one a second gains one token after the full interval', () => {
    const bucket = { ...refilled(null, 0.5, 0), tokens: 0 }
    expect(refilled(bucket, 0.5, 1_999).tokens).toBeLessThan(1)
    expect(refilled(bucket, 0.5, 2_000).tokens).toBe(1)
  })

  test('loses no tokens when the clock goes back', () => {
    const bucket = { tokens: 0.5, atMs: 1_000 }
    expect(refilled(bucket, 10, 500).tokens).toBe(0.5)
  })
})

test('the shares of all workers add up to the limit, for any binding', () => {
  fc.assert(
    fc.property(fc.nat(300), fc.integer({ min: 1, max: 50 }), fc.nat(), (limit, workers, salt) => {
      const shares = Array.from({ length: workers }, (_, rank) => shareOf(limit, { workers, rank }, salt))
      expect(shares.reduce((sum, share) => sum + share, 0)).toBe(limit)
      expect(Math.max(...shares) - Math.min(...shares)).toBeLessThanOrEqual(1)
    }),
  )
})
