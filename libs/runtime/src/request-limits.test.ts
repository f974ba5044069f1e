import { expect, test } from 'vitest'
import { createRequestLimits } from './request-limits.ts'

// Goal: no caller keeps a process busy, and a refused caller learns how long to wait. Method: a clock that the test sets.

function setUp(perSecond: number | null) {
  let nowMs = 0
  const limits = createRequestLimits({ perSecond, monotonicMs: () => nowMs })
  const taken = (requests: number, name = 'idp', requestsPerSecond: number | null = null) =>
    Array.from({ length: requests }, () => limits.pay({ name, requestsPerSecond }, 'reads', 1)).filter(
      (ms) => ms === 0,
    ).length
  return { limits, taken, pass: (ms: number) => (nowMs += ms) }
}

test('a burst passes, then the rate applies', () => {
  const { taken, pass } = setUp(100)
  expect(taken(1_000)).toBe(200)
  pass(1_000)
  expect(taken(1_000)).toBe(100)
})

test('a refusal says how long to wait, and after that time a request passes', () => {
  const { limits, taken, pass } = setUp(10)
  taken(1_000)
  const waitMs = limits.pay({ name: 'idp', requestsPerSecond: null }, 'reads', 1)
  expect(waitMs).toBeGreaterThan(0)
  pass(waitMs)
  expect(taken(1)).toBe(1)
})

test("a credential has its own rate or the default rate, and does not use up another's", () => {
  const { taken, pass } = setUp(1_000)
  expect(taken(1_000, 'slow', 1)).toBe(20)
  expect(taken(1_000, 'idp')).toBe(1_000)
  pass(1_000)
  expect(taken(1_000, 'slow', 1)).toBe(1)
  expect(setUp(null).taken(100_000)).toBe(100_000)
})

test('each kind of work has its own budget', () => {
  const { limits, taken } = setUp(10)
  const idp = { name: 'idp', requestsPerSecond: null }
  limits.charge(idp, 'sessions', 1_000)
  expect(limits.pay(idp, 'sessions', 1)).toBeGreaterThan(0)
  expect(taken(1)).toBe(1)
})

test('a request that costs more than the budget passes, and later ones wait until it is paid off', () => {
  const { limits, pass } = setUp(100)
  const idp = { name: 'idp', requestsPerSecond: null }
  expect(limits.pay(idp, 'sessions', 1_000)).toBe(0)
  // The budget held 200.
  expect(limits.pay(idp, 'sessions', 1)).toBe(8_010)
  pass(8_010)
  expect(limits.pay(idp, 'sessions', 1)).toBe(0)
})

test('a charge overdraws a budget at most by its limit', () => {
  const { limits } = setUp(100)
  const idp = { name: 'idp', requestsPerSecond: null }
  limits.charge(idp, 'logouts', 100_000, 5)
  expect(limits.pay(idp, 'logouts', 1)).toBe(5_010)
})
