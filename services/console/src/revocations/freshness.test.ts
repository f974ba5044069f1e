import { beforeEach, describe, expect, test } from 'vitest'
import { createFreshness } from './freshness.ts'

// Goal: the feed vouches for a time only if every logout that was accepted before it is in the feed.
// Method: a monitor whose answers the test sets, and a clock that the test drives.

const START = Date.UTC(2026, 10, 21, 12)
let nowMs: number
let behindMs: number
let lanes: readonly object[]
let answer: () => Promise<unknown>
let asOf: () => Promise<number>

const lane = (name: string, oldestSeconds = 0) => ({ lane: name, unknown: null, oldestSeconds })
beforeEach(() => {
  nowMs = START
  behindMs = 0
  lanes = [lane('interactive'), lane('bulk'), lane('sessions', 900)]
  answer = async () => ({ lanes })
  asOf = createFreshness({
    monitor: { look: () => answer() as never },
    behindMs: async () => behindMs,
    now: () => new Date(nowMs),
  })
})

test('it is the present time if no logout waits', async () => {
  expect(await asOf()).toBe(START)
})

test.each(['interactive', 'bulk'])(
  'it is before the oldest logout that waits in the lane %s',
  async (name) => {
    lanes = [lane('interactive'), lane('bulk')].map((each) => (each.lane === name ? lane(name, 40) : each))
    expect(await asOf()).toBe(START - 40_000)
  },
)

test('it is before the oldest logout that is planned and not in the feed', async () => {
  behindMs = 7_000
  expect(await asOf()).toBe(START - 7_000)
})

describe('it stands still', () => {
  test.each<[string, () => Promise<unknown>]>([
    ['the event log does not answer', () => Promise.reject(new Error('no broker'))],
    [
      'a lane is unknown',
      async () => ({ lanes: [lane('interactive'), { lane: 'bulk', unknown: 'no leader' }] }),
    ],
    ['a lane is missing', async () => ({ lanes: [lane('interactive')] })],
  ])('while %s', async (_, failing) => {
    expect(await asOf()).toBe(START)
    answer = failing
    nowMs += 20_000
    expect(await asOf()).toBe(START)
    answer = async () => ({ lanes })
    nowMs += 20_000
    expect(await asOf()).toBe(nowMs)
  })

  test('at 0 before the first answer', async () => {
    answer = () => Promise.reject(new Error('no broker'))
    expect(await asOf()).toBe(0)
  })
})

test('a look that began before is not dated later than its beginning', async () => {
  answer = async () => {
    nowMs += 1_500
    return { lanes }
  }
  expect(await asOf()).toBe(START)
})
