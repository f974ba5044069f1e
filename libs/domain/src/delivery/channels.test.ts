import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type ChannelDelivery, weakestRequired } from './channels.ts'

// Goal: a logout at an RP with several channels has the status of its weakest required delivery, or of that delivery's fallback.
// Method: a status is a number, and a higher one is worse; from FAILED on the delivery has failed.

const FAILED = 10
type DeliveryStatus = ChannelDelivery & { readonly status: number }
const weakest = (deliveries: readonly DeliveryStatus[]) =>
  weakestRequired(deliveries, {
    statusOf: ({ status }) => status,
    worse: Math.max,
    failed: (status) => status >= FAILED,
  })
const required = (channel: string, status: number, sid: string | null = null): DeliveryStatus => ({
  ...{ channel, fallbackFor: null, sid, status },
})
const fallback = (channel: string, fallbackFor: string, status: number, sid: string | null = null) => ({
  ...{ channel, fallbackFor, sid, status },
})

describe('a fallback', () => {
  test('replaces a failed delivery, along a whole chain', () => {
    const chain = [required('a', FAILED), fallback('b', 'a', FAILED + 1), fallback('c', 'b', 3)]
    expect(weakest(chain)).toBe(3)
    expect(weakest(chain.slice(0, 2))).toBe(FAILED)
  })

  test('does not count if the replaced delivery has not failed', () => {
    expect(weakest([required('a', 2), fallback('b', 'a', FAILED)])).toBe(2)
  })

  test('replaces the delivery for the session that it names, or for all sessions', () => {
    const sessions = [required('a', FAILED, 's1'), required('a', FAILED, 's2')]
    expect(weakest([...sessions, fallback('b', 'a', 1, 's1')])).toBe(FAILED)
    expect(weakest([...sessions, fallback('b', 'a', 1, 's1'), fallback('b', 'a', 2, 's2')])).toBe(2)
    expect(weakest([...sessions, fallback('b', 'a', 1)])).toBe(1)
  })

  test('is required if it replaces no delivery', () => {
    expect(weakest([fallback('b', 'a', 4), required('c', 1)])).toBe(4)
    expect(weakest([required('a', 1, 's1'), fallback('b', 'a', 4, 's2')])).toBe(4)
  })

  test('in a circle is decided', () => {
    expect(weakest([fallback('a', 'b', FAILED), fallback('b', 'a', FAILED)])).toBe(FAILED)
  })
})

test('the status is never better than a required delivery that has not failed, and never worse than the worst', () => {
  const deliveries = fc.array(
    fc.record({
      channel: fc.constantFrom('a', 'b', 'c'),
      fallbackFor: fc.option(fc.constantFrom('a', 'b', 'c')),
      sid: fc.option(fc.constantFrom('s1', 's2')),
      status: fc.integer({ min: 0, max: FAILED + 2 }),
    }),
    { minLength: 1, maxLength: 6 },
  )
  fc.assert(
    fc.property(deliveries, (given) => {
      const statuses = given.map(({ status }) => status)
      const found = weakest(given)
      expect(found).toBeGreaterThanOrEqual(Math.min(...statuses))
      expect(found).toBeLessThanOrEqual(Math.max(...statuses))
      for (const { fallbackFor, status } of given)
        if (fallbackFor === null && status < FAILED) expect(found).toBeGreaterThanOrEqual(status)
      const allRequired = given.map((delivery) => ({ ...delivery, fallbackFor: null }))
      expect(weakest(allRequired)).toBe(Math.max(...statuses))
    }),
    { numRuns: 1_000 },
  )
})
