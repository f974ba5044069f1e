import type { DeliveryId } from '@curfew/domain'
import { createLog } from '@curfew/runtime'
import { expect, test } from 'vitest'
import { createAnnouncer } from './announcer.ts'
import { createSettler } from './settler.ts'

// Goal: to wake those who wait never holds up who settles. Method: a ledger that answers when the test says so.

const log = createLog({ service: 'test', level: 'silent' })
const id = (number: number) => `${number}` as DeliveryId

function rig() {
  const said: { readonly ids: readonly string[]; done: (error?: Error) => void }[] = []
  const ledger = {
    announceSettled(ids: readonly string[]) {
      const { promise, resolve, reject } = Promise.withResolvers<void>()
      said.push({ ids, done: (error) => (error === undefined ? resolve() : reject(error)) })
      return promise
    },
  }
  return { said, announcer: createAnnouncer({ ledger, log }) }
}

test('what comes while one statement is under way is said together by the next', async () => {
  const { said, announcer } = rig()
  for (const number of [1, 2, 3]) announcer.announce([id(number)])
  expect(said.map(({ ids }) => ids)).toEqual([['1']])
  said[0]?.done()
  await expect.poll(() => said.map(({ ids }) => ids)).toEqual([['1'], ['2', '3']])
  const idle = announcer.idle()
  said[1]?.done()
  await idle
  announcer.announce([])
  expect(said).toHaveLength(2)
})

test('what cannot be said is dropped, and so is what is too much; what follows is said again', async () => {
  const { said, announcer } = rig()
  announcer.announce([id(0)])
  for (let batch = 0; batch < 100; batch++) announcer.announce(Array.from({ length: 500 }, (_, n) => id(n)))
  said[0]?.done(new Error('away'))
  await expect.poll(() => said.length).toBe(2)
  expect(said[1]?.ids).toHaveLength(20_000)
  said[1]?.done()
  await announcer.idle()
  announcer.announce([id(7)])
  expect(said[2]?.ids).toEqual(['7'])
})

test('settling does not wait for it, and names what ended only', async () => {
  const { said, announcer } = rig()
  const settler = createSettler({
    ledger: { settleDeliveries: async () => new Set(), supersedeOlder: async () => 0 },
    announcer,
    log,
    now: () => new Date(0),
    abandoning: new AbortController().signal,
  })
  const settle = (number: number, state: 'acknowledged' | 'pending' | 'lapsed' | 'dead_lettered') =>
    settler.settle('w' as never, { id: id(number), settlement: { state } } as never)
  const all = [
    settle(1, 'acknowledged'),
    settle(2, 'pending'),
    settle(3, 'lapsed'),
    settle(4, 'dead_lettered'),
  ]
  expect(await Promise.all(all)).toEqual([true, true, true, true])
  expect(said.map(({ ids }) => ids)).toEqual([['1', '3', '4']])
  expect(await settle(5, 'acknowledged')).toBe(true)
  await settler.drain()
})
