import { randomUUID } from 'node:crypto'
import { findEvents, planEvents, settleDeliveries, settledEvents } from '@curfew/ledger'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { bindingsOf, newEvent, newLease, newWorker, planFor, register, settledAs } from './ledger-support.ts'

// Goal: many events are read at once as each would be by itself, and never more of them than memory is meant for.

let database: TestDatabase
/** Owed to three relying parties each, but for the last, which is owed to nobody. */
let ids: readonly string[]

beforeAll(async () => {
  database = await createTestDatabase()
  const { db } = database
  const registry = await register(db, 3)
  const workerId = await newWorker(db)
  const planned = Array.from({ length: 5 }, (_, n) =>
    planFor(newEvent({ sub: `u${n}` }), n === 4 ? [] : bindingsOf(registry), { leased: true }),
  )
  const now = new Date()
  await planEvents(db, { batch: planned, lease: newLease(workerId), registryRevision: null, now })
  const [first, second] = planned.map(({ deliveries }) =>
    deliveries.map(({ delivery }) => settledAs(delivery)),
  )
  const batch = [...(first ?? []), ...(second ?? []).slice(1)]
  expect(await settleDeliveries(db, { batch, workerId, now })).toEqual(new Set())
  ids = planned.map(({ event }) => event.id)
})
afterAll(() => database.drop())

const counts = async (asked: readonly string[], deliveriesMax: number) => {
  const found = await findEvents(database.db, { ids: asked, deliveriesMax })
  expect([...found.keys()]).toEqual([...new Set(asked)])
  return [...found.values()].map((one) => (one === null || one === 'later' ? one : one.deliveries.length))
}

test('events come with the deliveries that are theirs, in one order, however often one is asked for', async () => {
  const unknown = randomUUID()
  const [a = '', b = '', , , none = ''] = ids
  const found = await findEvents(database.db, { ids: [b, unknown, a, none, b], deliveriesMax: 100 })
  for (const id of [a, b, none]) {
    const one = found.get(id)
    if (one === null || one === undefined || one === 'later') throw new Error(`no ${id}`)
    expect(one.event.id).toBe(id)
    expect(one.deliveries.map(({ eventId, clientId }) => [eventId, clientId])).toEqual(
      id === none ? [] : ['rp-0', 'rp-1', 'rp-2'].map((client) => [id, client]),
    )
    expect(await findEvents(database.db, { ids: [id], deliveriesMax: 1 })).toEqual(new Map([[id, one]]))
  }
  expect(found.get(unknown)).toBe(null)
})

test('no more are read together than may be, and one at least', async () => {
  const unknown = randomUUID()
  expect(await counts(ids, 100)).toEqual([3, 3, 3, 3, 0])
  expect(await counts(ids, 8)).toEqual([3, 3, 'later', 'later', 'later'])
  expect(await counts([unknown, ...ids], 1)).toEqual([null, 3, 'later', 'later', 'later', 'later'])
  expect(await counts([], 100)).toEqual([])
})

test('settled are those of which nothing is left, and that are planned', async () => {
  const [a = '', , , , none = ''] = ids
  expect(await settledEvents(database.db, [...ids, randomUUID()])).toEqual(new Set([a, none]))
})
