import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { createFreshness } from './freshness.ts'

// Goal: a process that is cut off from Curfew knows it within max_staleness (CUT-04), whatever its wall clock says, and whatever holds
// answers back or repeats them. Method: a monotonic clock that begins anywhere, and answers with the time of Curfew.

const CURFEW_MS = 1_800_000_000_000
/** An answer that Curfew made at a time, in milliseconds after the start of its clock. */
const madeAt = (ms: number, behindMs = 0) => ({
  ...{ issuedMs: CURFEW_MS + ms, asOfMs: CURFEW_MS + ms - behindMs, maxStalenessMs: 30_000 },
})

describe('CUT-04: the state is stale', () => {
  test('before the first answer', () => {
    const freshness = createFreshness(Number.POSITIVE_INFINITY)
    expect([freshness.isStale(0), freshness.ageMs(0), freshness.asOfMs]).toEqual([true, null, null])
  })

  test('from max_staleness after the last answer', () => {
    const freshness = createFreshness(Number.POSITIVE_INFINITY)
    freshness.note(madeAt(0), 77)
    expect([freshness.isStale(77 + 30_000), freshness.isStale(77 + 30_001)]).toEqual([false, true])
  })

  test('as much earlier as Curfew was behind when it answered', () => {
    const freshness = createFreshness(Number.POSITIVE_INFINITY)
    freshness.note(madeAt(0, 20_000), 0)
    expect([freshness.isStale(10_000), freshness.isStale(10_001)]).toEqual([false, true])
  })

  test('earlier if the process allows less, and not later if it allows more', () => {
    const [strict, lax] = [createFreshness(5_000), createFreshness(90_000)]
    for (const freshness of [strict, lax]) freshness.note(madeAt(0), 0)
    expect([strict.isStale(5_001), lax.isStale(30_001)]).toEqual([true, true])
  })

  test('although an old answer is repeated', () => {
    const freshness = createFreshness(Number.POSITIVE_INFINITY)
    freshness.note(madeAt(0), 0)
    for (let ms = 1_000; ms <= 60_000; ms += 1_000) expect(freshness.note(madeAt(0), ms)).toBe(false)
    expect(freshness.isStale(30_001)).toBe(true)
  })

  test('although an answer that was held back arrives', () => {
    const freshness = createFreshness(Number.POSITIVE_INFINITY)
    freshness.note(madeAt(0), 0)
    freshness.note(madeAt(1_000), 120_000)
    expect(freshness.ageMs(120_000)).toBe(119_000)
    freshness.note(madeAt(2_000), 2_000_000)
    expect(freshness.isStale(2_000_000)).toBe(true)
  })
})

test('an age is never below the true one while the clocks agree in pace', () => {
  const DELAYS = fc.array(fc.record({ pauseMs: fc.nat(40_000), delayMs: fc.nat(20_000) }), { minLength: 2 })
  fc.assert(
    fc.property(DELAYS, fc.nat(1e9), (answers, startMs) => {
      const freshness = createFreshness(Number.POSITIVE_INFINITY)
      // The first answer comes at once, so the clocks are compared well.
      freshness.note(madeAt(0), startMs)
      let madeMs = 0
      for (const { pauseMs, delayMs } of answers.slice(0, 8)) {
        madeMs += 1 + Math.min(pauseMs, 10_000)
        freshness.note(madeAt(madeMs), startMs + madeMs + delayMs)
        expect(freshness.ageMs(startMs + madeMs + delayMs)).toBeGreaterThanOrEqual(delayMs - 1e-3)
        madeMs += delayMs
      }
    }),
  )
})

test('a state is fresh again within ten minutes after the clock of Curfew was set back by a minute', () => {
  const freshness = createFreshness(Number.POSITIVE_INFINITY)
  for (let ms = 0; ms <= 600_000; ms += 15_000) freshness.note(madeAt(ms), ms)
  let ms = 615_000
  for (; ms < 1_215_000 + 60_000; ms += 15_000) freshness.note(madeAt(ms - 60_000), ms)
  expect(freshness.isStale(ms)).toBe(false)
})
