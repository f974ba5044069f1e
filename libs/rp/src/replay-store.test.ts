import { expect, test } from 'vitest'
import { memoryReplayStore, redisReplayStore } from './replay-store.ts'

// Goal: a key is remembered for its time only, in bounded memory.
// Method: a clock set by hand; two fakes with the method names of the Redis clients record the commands.

test('memory: a key is remembered until its time is over', () => {
  let nowMs = 0
  const store = memoryReplayStore({ now: () => new Date(nowMs) })
  store.add('a', 10)
  expect([store.has('a'), store.has('b')]).toEqual([true, false])
  nowMs = 9_999
  expect(store.has('a')).toBe(true)
  nowMs = 10_000
  expect(store.has('a')).toBe(false)
})

test('memory: the oldest keys are dropped above the limit', () => {
  const store = memoryReplayStore({ keysMax: 3 })
  for (const key of ['a', 'b', 'a', 'c', 'd']) store.add(key, 60)
  expect(['a', 'b', 'c', 'd'].filter((key) => store.has(key))).toEqual(['a', 'c', 'd'])
})

test.each(['setEx', 'setex'])(
  'redis: a client with %s gets prefixed keys with their time to live',
  async (method) => {
    const sent: unknown[][] = []
    const client = {
      exists: async (key: string) => {
        sent.push(['exists', key])
        return key.endsWith('used') ? 1 : 0
      },
      [method]: async (...args: unknown[]) => {
        sent.push([method, ...args])
        return 'OK'
      },
    } as never
    const store = redisReplayStore(client)
    expect([await store.has('used'), await store.has('new')]).toEqual([true, false])
    await redisReplayStore(client, { prefix: 'shop:' }).add('new', 180)
    expect(sent.slice(1)).toEqual([
      ['exists', 'curfew:rp:new'],
      [method, 'shop:new', 180, '1'],
    ])
  },
)
