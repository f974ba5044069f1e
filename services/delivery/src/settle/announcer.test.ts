import type { DeliveryId } from '@curfew/domain'
import { createLog } from '@curfew/runtime'
import { expect, test } from 'vitest'
import { createAnnouncer } from './announcer.ts'
import { createSettler } from './settler.ts'

// Goal: waking waiting callers never delays settling. Method: a ledger that answers when the test says so.

const log = createLog({ service: 'test', level: 'silent' })
const id = (number: number) => `${number}` as DeliveryId

function rig() {
  const statements: { readonly ids: readonly string[]; done: (error?: Error) => void }[] = []
  const ledger = {
    announceSettled(ids: readonly string[]) {
      const { promise, resolve, reject } = Promise.withResolvers<void>()
      statements.push({ ids, done: (error) => (error === undefined ? resolve() : reject(error)) })
      return promise
    },
  }
  return { statements, announcer: createAnnouncer({ ledger, log }) }
}

test('the next statement announces together everything that arrived during the last one', async () => {
  const { statements, announcer } = rig()
  for (const number of [1, 2, 3]) announcer.announce([id(number)])
  expect(statements.map(({ ids }) => ids)).toEqual([['1']])
  statements[0]?.done()
  await expect.poll(() => statements.map(({ ids }) => ids)).toEqual([['1'], ['2', '3']])
  const idle = announcer.idle()
  statements[1]?.done()
  await idle
  announcer.announce([])
  expect(statements).toHaveLength(2)
})

test('a failed announcement and an excess of ids are dropped, and later ids are announced', async () => {
  const { statements, announcer } = rig()
  announcer.announce([id(0)])
  for (let batch = 0; batch < 100; batch++) announcer.announce(Array.from({ length: 500 }, (_, n) => id(n)))
  statements[0]?.done(new Error('unavailable'))
  await expect.poll(() => statements.length).toBe(2)
  expect(statements[1]?.ids).toHaveLength(20_000)
  statements[1]?.done()
  await announcer.idle()
  announcer.announce([id(7)])
  expect(statements[2]?.ids).toEqual(['7'])
})

test('settling does not wait for the announcement, and announces only deliveries that ended', async () => {
  const { statements, announcer } = rig()
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
  expect(statements.map(({ ids }) => ids)).toEqual([['1', '3', '4']])
  expect(await settle(5, 'acknowledged')).toBe(true)
  await settler.drain()
})
