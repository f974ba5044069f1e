import fc from 'fast-check'
import { expect, test } from 'vitest'
import { isToBeHalved, LIFETIME_BUCKETS, lifetimeBucket, overlongAfterMs } from './lifetime.ts'

// Goal: a session counts as overlong only if it has lasted far longer than almost all ended sessions of its client.
// Method: properties over lists of lifetimes, compared with the exact 99th percentile.

const HOUR_MS = 3_600_000
const YEAR_MS = 365 * 24 * HOUR_MS
const START = new Date('2026-01-01T00:00:00Z')
const lifetimeMs = fc.integer({ min: 1, max: 10 * YEAR_MS })

const bucketOf = (ms: number, expiresAt: Date | null = null) =>
  lifetimeBucket({ startedAt: START, expiresAt }, new Date(START.getTime() + ms))

function lifetimesOf(ms: readonly number[]): number[] {
  const counts = Array.from({ length: LIFETIME_BUCKETS }, () => 0)
  for (const bucket of ms.map((each) => bucketOf(each) ?? -1)) counts[bucket] = (counts[bucket] ?? 0) + 1
  return counts
}

test('the limit is three times the 99th percentile, and at least an hour above it, and at most a quarter too long', () => {
  fc.assert(
    fc.property(fc.array(lifetimeMs, { minLength: 100, maxLength: 400 }), (all) => {
      const limit = overlongAfterMs(lifetimesOf(all), 0) ?? 0
      const exact = all.toSorted((a, b) => a - b)[Math.ceil(all.length * 0.99) - 1] ?? 0
      expect(limit).toBeGreaterThanOrEqual(Math.max(3 * exact, exact + HOUR_MS))
      const minute = Math.max(exact, 60_000)
      expect(limit).toBeLessThanOrEqual(Math.max(3 * minute, minute + HOUR_MS) * 1.25)
    }),
  )
})

test('one session in a hundred at most is longer than the limit', () => {
  fc.assert(
    fc.property(fc.array(lifetimeMs, { minLength: 100, maxLength: 400 }), (all) => {
      const limit = overlongAfterMs(lifetimesOf(all), 0) ?? 0
      expect(all.filter((ms) => ms > limit).length).toBeLessThanOrEqual(all.length / 100)
    }),
  )
})

test('fewer than 100 ended sessions give no limit', () => {
  fc.assert(
    fc.property(fc.array(lifetimeMs, { maxLength: 99 }), (all) => {
      expect(overlongAfterMs(lifetimesOf(all), 0)).toBeNull()
    }),
  )
  expect(overlongAfterMs([], 0)).toBeNull()
  expect(overlongAfterMs(lifetimesOf(Array.from({ length: 99 }, () => HOUR_MS)), 0)).toBeNull()
  expect(overlongAfterMs(lifetimesOf(Array.from({ length: 100 }, () => HOUR_MS)), 0)).not.toBeNull()
})

test('there is no limit exactly while more sessions expire than end', () => {
  fc.assert(
    fc.property(
      fc.array(lifetimeMs, { minLength: 100, maxLength: 400 }),
      fc.nat({ max: 800 }),
      (all, expiries) => {
        const counts = lifetimesOf(all)
        const limit = expiries > all.length ? null : overlongAfterMs(counts, 0)
        expect(overlongAfterMs(counts, expiries)).toBe(limit)
      },
    ),
  )
})

test('a client whose sessions come to end early gets a limit again, within some thousands of them', () => {
  let [ends, expiries] = [0, 100_000]
  const counts = (n: number) => lifetimesOf([HOUR_MS]).map((count) => count * n)
  for (let n = 0; n < 6_000 || isToBeHalved(counts(ends), expiries); n++) {
    if (n < 6_000) ends += 1
    if (isToBeHalved(counts(ends), expiries)) [ends, expiries] = [ends / 2, expiries / 2]
  }
  expect(overlongAfterMs(counts(ends), expiries)).not.toBeNull()
})

test('halving all numbers keeps the limit while there is evidence', () => {
  fc.assert(
    fc.property(
      fc.array(lifetimeMs, { minLength: 200, maxLength: 400 }),
      fc.nat({ max: 800 }),
      (all, expiries) => {
        const counts = lifetimesOf(all)
        expect(
          overlongAfterMs(
            counts.map((count) => count / 2),
            expiries / 2,
          ),
        ).toBe(overlongAfterMs(counts, expiries))
      },
    ),
  )
})

test('a limit follows sessions that have become longer, within a few thousand of them', () => {
  let counts = lifetimesOf(Array.from({ length: 4_000 }, () => HOUR_MS))
  for (let n = 0; n < 100; n++) {
    counts = counts.map((count, bucket) => count + (bucket === bucketOf(24 * HOUR_MS) ? 1 : 0))
    if (isToBeHalved(counts, 0)) counts = counts.map((count) => count / 2)
  }
  expect(overlongAfterMs(counts, 0)).toBeGreaterThan(72 * HOUR_MS)
})

test('a limit follows sessions that have become shorter, and the histogram stays small', () => {
  let counts = lifetimesOf(Array.from({ length: 4_000 }, () => 240 * HOUR_MS))
  for (let n = 0; n < 20_000; n++) {
    counts = counts.map((count, bucket) => count + (bucket === bucketOf(HOUR_MS) ? 1 : 0))
    if (isToBeHalved(counts, 0)) counts = counts.map((count) => count / 2)
  }
  expect(overlongAfterMs(counts, 0)).toBeLessThan(4 * HOUR_MS)
  expect(counts.reduce((sum, count) => sum + count, 0)).toBeLessThanOrEqual(4_000)
})

test.each<[string, number, Date | null]>([
  ['that ended before it began', -1, null],
  ['that ended as it began', 0, null],
  ['with an impossible time', Number.NaN, null],
  ['that had ended by itself', 2 * HOUR_MS, new Date(START.getTime() + HOUR_MS)],
])('a session %s says nothing about normal lifetimes', (_what, ms, expiresAt) => {
  expect(bucketOf(ms, expiresAt)).toBeNull()
})

test('every other lifetime has a bucket, and a longer one has none before it', () => {
  fc.assert(
    fc.property(lifetimeMs, lifetimeMs, (one, other) => {
      const [short, long] = [bucketOf(Math.min(one, other)), bucketOf(Math.max(one, other))]
      expect(short).toBeGreaterThanOrEqual(0)
      expect(long).toBeGreaterThanOrEqual(short ?? 0)
      expect(long).toBeLessThan(LIFETIME_BUCKETS)
    }),
  )
  const first = new Date('0001-01-01T00:00:00Z')
  expect(lifetimeBucket({ startedAt: first, expiresAt: null }, START)).toBe(LIFETIME_BUCKETS - 1)
})
