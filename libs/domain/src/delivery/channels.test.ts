import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type ChannelDelivery, weakestRequired } from './channels.ts'

// Goal: an RP with several channels is as well off as its weakest required delivery, and a fallback helps where it stands in.
// Method: standings are numbers, the higher the worse; from FAILED on they have failed.

const FAILED = 10
type Standing = ChannelDelivery & { readonly standing: number }
const of = (deliveries: readonly Standing[]) =>
  weakestRequired(deliveries, {
    standingOf: ({ standing }) => standing,
    worse: Math.max,
    failed: (standing) => standing >= FAILED,
  })
const required = (channel: string, standing: number, sid: string | null = null): Standing => ({
  ...{ channel, fallbackFor: null, sid, standing },
})
const fallback = (channel: string, fallbackFor: string, standing: number, sid: string | null = null) => ({
  ...{ channel, fallbackFor, sid, standing },
})

describe('a fallback', () => {
  test('stands in for the delivery that has failed, along the whole chain', () => {
    const chain = [required('a', FAILED), fallback('b', 'a', FAILED + 1), fallback('c', 'b', 3)]
    expect(of(chain)).toBe(3)
    expect(of(chain.slice(0, 2))).toBe(FAILED)
  })

  test('is not asked where the delivery before it has not failed', () => {
    expect(of([required('a', 2), fallback('b', 'a', FAILED)])).toBe(2)
  })

  test('stands in for the session that it names, or for all of them', () => {
    const sessions = [required('a', FAILED, 's1'), required('a', FAILED, 's2')]
    expect(of([...sessions, fallback('b', 'a', 1, 's1')])).toBe(FAILED)
    expect(of([...sessions, fallback('b', 'a', 1, 's1'), fallback('b', 'a', 2, 's2')])).toBe(2)
    expect(of([...sessions, fallback('b', 'a', 1)])).toBe(1)
  })

  test('of which the channel before owed nothing is required', () => {
    expect(of([fallback('b', 'a', 4), required('c', 1)])).toBe(4)
    expect(of([required('a', 1, 's1'), fallback('b', 'a', 4, 's2')])).toBe(4)
  })

  test('in a circle ends', () => {
    expect(of([fallback('a', 'b', FAILED), fallback('b', 'a', FAILED)])).toBe(FAILED)
  })
})

test('whatever the channels: never better than a delivery that is left, never worse than the worst, and without fallbacks the worst', () => {
  const deliveries = fc.array(
    fc.record({
      channel: fc.constantFrom('a', 'b', 'c'),
      fallbackFor: fc.option(fc.constantFrom('a', 'b', 'c')),
      sid: fc.option(fc.constantFrom('s1', 's2')),
      standing: fc.integer({ min: 0, max: FAILED + 2 }),
    }),
    { minLength: 1, maxLength: 6 },
  )
  fc.assert(
    fc.property(deliveries, (given) => {
      const standings = given.map(({ standing }) => standing)
      const worst = of(given)
      expect(worst).toBeGreaterThanOrEqual(Math.min(...standings))
      expect(worst).toBeLessThanOrEqual(Math.max(...standings))
      for (const { fallbackFor, standing } of given)
        if (fallbackFor === null && standing < FAILED) expect(worst).toBeGreaterThanOrEqual(standing)
      const alone = given.map((delivery) => ({ ...delivery, fallbackFor: null }))
      expect(of(alone)).toBe(Math.max(...standings))
    }),
    { numRuns: 1_000 },
  )
})
