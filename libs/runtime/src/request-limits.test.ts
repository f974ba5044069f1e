import { expect, test } from 'vitest'
import { createRequestLimits } from './request-limits.ts'

// Goal: nobody keeps a process busy for himself, and whoever asks too often is told when to come back.

function setUp(perSecond: number | null) {
  let nowMs = 0
  const limits = createRequestLimits({ perSecond, monotonicMs: () => nowMs })
  const taken = (requests: number, name = 'idp', requestsPerSecond: number | null = null) =>
    Array.from({ length: requests }, () => limits.pay({ name, requestsPerSecond }, 'reads', 1)).filter(
      (ms) => ms === 0,
    ).length
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
  const waitMs = limits.pay({ name: 'idp', requestsPerSecond: null }, 'reads', 1)
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

test('what one kind of work spends is not missing from another', () => {
  const { limits, taken } = setUp(10)
  const idp = { name: 'idp', requestsPerSecond: null }
  limits.charge(idp, 'sessions', 1_000)
  expect(limits.pay(idp, 'sessions', 1)).toBeGreaterThan(0)
  expect(taken(1)).toBe(1)
})

test('a request that is dearer than the budget goes through, and those after it wait until it is paid off', () => {
  const { limits, pass } = setUp(100)
  const idp = { name: 'idp', requestsPerSecond: null }
  expect(limits.pay(idp, 'sessions', 1_000)).toBe(0)
  // 200 were there.
  expect(limits.pay(idp, 'sessions', 1)).toBe(8_010)
  pass(8_010)
  expect(limits.pay(idp, 'sessions', 1)).toBe(0)
})

test('a charge overdraws a budget no further than it may', () => {
  const { limits } = setUp(100)
  const idp = { name: 'idp', requestsPerSecond: null }
  limits.charge(idp, 'logouts', 100_000, 5)
  expect(limits.pay(idp, 'logouts', 1)).toBe(5_010)
})
