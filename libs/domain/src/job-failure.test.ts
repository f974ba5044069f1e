import { expect, test } from 'vitest'
import { endsAsFailed, retryPauseMs } from './job-failure.ts'

test('a job with a refused value ends after five tries and a minute', () => {
  expect(endsAsFailed({ fault: 'data', tries: 5, forMs: 60_000 })).toBe(true)
  expect(endsAsFailed({ fault: 'data', tries: 4, forMs: 600_000 })).toBe(false)
  expect(endsAsFailed({ fault: 'data', tries: 50, forMs: 59_999 })).toBe(false)
})

test('a job with another fault ends after an hour', () => {
  expect(endsAsFailed({ fault: 'other', tries: 50, forMs: 3_599_999 })).toBe(false)
  expect(endsAsFailed({ fault: 'other', tries: 50, forMs: 3_600_000 })).toBe(true)
})

test('a job with a passing fault never ends', () => {
  expect(endsAsFailed({ fault: 'passing', tries: 1_000_000, forMs: 1e12 })).toBe(false)
})

test('the pause between tries grows from a second to a minute', () => {
  const pauses = [1, 2, 3, 7, 8, 5_000].map((tries) => retryPauseMs({ fault: 'data', tries }))
  expect(pauses).toEqual([1_000, 2_000, 4_000, 60_000, 60_000, 60_000])
  expect(retryPauseMs({ fault: 'passing', tries: 5_000 })).toBe(1_000)
})
