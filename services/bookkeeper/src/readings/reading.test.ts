import { expect, test } from 'vitest'
import { createReading } from './reading.ts'

// Goal: a metric never shows an outdated number as if it were fresh.

test('a reading has no value before the first round, after a failed round, and once it is a minute old', async () => {
  const results: (number | Error)[] = [7, new Error('PostgreSQL is away'), 8]
  let nowMs = 0
  const reading = createReading(
    'number',
    async () => {
      const result = results.shift()
      if (typeof result !== 'number') throw result
      return result
    },
    { monotonicMs: () => nowMs },
  )
  expect(reading.latest()).toBeNull()
  expect(await reading.round()).toBe(false)
  expect(reading.latest()).toBe(7)
  await expect(reading.round()).rejects.toThrow('PostgreSQL is away')
  expect(reading.latest()).toBeNull()
  await reading.round()
  nowMs = 60_000
  expect(reading.latest()).toBe(8)
  nowMs = 60_001
  expect(reading.latest()).toBeNull()
})
