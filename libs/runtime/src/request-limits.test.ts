import { expect, test } from 'vitest'
import { createRequestLimits } from './request-limits.ts'

// Goal: nobody keeps a process busy for himself, and whoever asks too often is told when to come back.

function setUp(perSecond: number | null) {
  let nowMs = 0
  const limits = createRequestLimits({ perSecond, monotonicMs: () => nowMs })
  const taken = (requests: number, name = 'idp', requestsPerSecond: number | null = null) =>
    Array.from({ length: requests }, () => limits.take({ name, requestsPerSecond })).filter((ms) => ms === 0)
      .length
  return { limits, taken, pass: (ms: number) => (nowMs += ms) }
}

test('lets a burst through, then the rate', () => {
  const { taken, pass } = setUp(100)
  expect(taken(1_000)).toBe(200)
  pass(1_000)
  expect(taken(1_000)).toBe(100)
})

test('says how long to wait, and then it may', () => {
  const { limits, taken, pass } = setUp(10)
  taken(1_000)
  const waitMs = limits.take({ name: 'idp', requestsPerSecond: null })
  expect(waitMs).toBeGreaterThan(0)
  pass(waitMs)
  expect(taken(1)).toBe(1)
})

test("a credential has a rate of its own, or that of all; one does not use up another's", () => {
  const { taken, pass } = setUp(1_000)
  expect(taken(1_000, 'slow', 1)).toBe(20)
  expect(taken(1_000, 'idp')).toBe(1_000)
  pass(1_000)
  expect(taken(1_000, 'slow', 1)).toBe(1)
  expect(setUp(null).taken(100_000)).toBe(100_000)
})
