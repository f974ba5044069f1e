import { describe, expect, it } from 'vitest'
import { type Offsets, oldestAgeMs } from './oldest.ts'

// Goal: few requests find the age of the oldest unread record, whatever it is. Method: partitions as lists of ages, which answer
// like Kafka.

const NOW = Date.UTC(2026, 10, 29)

function logOf(partitions: readonly (readonly number[])[]) {
  let requests = 0
  return {
    requests: () => requests,
    async firstSince(timeMs: number): Promise<Offsets> {
      requests++
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
  it.each([1, 7, 60, 86_400, 604_800])('is accurate to a tenth: %i s', async (seconds) => {
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
    expect(log.requests()).toBeLessThan(20)
  })

  it('takes one request if every record is new, or from the future', async () => {
    const log = logOf([[90_000, 300, -5_000]])
    expect(await oldestAgeMs(new Map([[0, 1n]]), log.firstSince, NOW)).toBe(1_000)
    expect(log.requests()).toBe(1)
  })

  it('stops at the maximum if no time covers a record', async () => {
    const firstSince = async () => new Map([[0, 9n]])
    expect(await oldestAgeMs(new Map([[0, 1n]]), firstSince, NOW)).toBeGreaterThan(400 * 86_400_000)
  })
})
