import { describe, expect, it } from 'vitest'
import { type Offsets, oldestAgeMs } from './oldest.ts'

// Goal: the age of the oldest unread record is found by few questions, whatever it is. Method: partitions as lists of times, which
// are asked as Kafka is.

const NOW = Date.UTC(2026, 10, 29)

function logOf(partitions: readonly (readonly number[])[]) {
  let questions = 0
  return {
    questions: () => questions,
    async firstSince(timeMs: number): Promise<Offsets> {
      questions++
      return new Map(
        partitions.map((ages, partition) => {
          const found = ages.findIndex((ageMs) => NOW - ageMs >= timeMs)
          return [partition, BigInt(found < 0 ? ages.length : found)] as const
        }),
      )
    },
  }
}

describe('the age of the oldest unread record', () => {
  it.each([1, 7, 60, 86_400, 604_800])('is found to a tenth: %i s', async (seconds) => {
    const oldest = seconds * 1_000
    const log = logOf([
      [oldest * 9, oldest * 2, oldest, oldest / 2],
      [oldest * 3, oldest / 3],
    ])
    const unread = new Map([
      [0, 2n],
      [1, 1n],
    ])
    const found = await oldestAgeMs(unread, log.firstSince, NOW)
    expect(found).toBeGreaterThanOrEqual(oldest)
    expect(found).toBeLessThanOrEqual(oldest * 1.1)
    expect(log.questions()).toBeLessThan(20)
  })

  it('takes one question where every record is new, also one from the future', async () => {
    const log = logOf([[90_000, 300, -5_000]])
    expect(await oldestAgeMs(new Map([[0, 1n]]), log.firstSince, NOW)).toBe(1_000)
    expect(log.questions()).toBe(1)
  })

  it('ends where no time covers a record', async () => {
    const firstSince = async () => new Map([[0, 9n]])
    expect(await oldestAgeMs(new Map([[0, 1n]]), firstSince, NOW)).toBeGreaterThan(400 * 86_400_000)
  })
})
