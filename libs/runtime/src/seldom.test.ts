import { expect, test } from 'vitest'
import { createThrottle } from './seldom.ts'

test('a key passes at once, and again after the interval', () => {
  let nowMs = 0
  const isTime = createThrottle({ everyMs: 60_000, monotonicMs: () => nowMs })
  expect([isTime('a'), isTime('a'), isTime('b')]).toEqual([true, false, true])
  nowMs = 59_999
  expect(isTime('a')).toBe(false)
  nowMs = 60_000
  expect([isTime('a'), isTime('a')]).toEqual([true, false])
})
