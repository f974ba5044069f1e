import { randomUUID } from 'node:crypto'
import { findEvents, planEvents, settleDeliveries, settledEvents } from '@curfew/ledger'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { bindingsOf, newEvent, newLease, newWorker, planFor, register, settledAs } from './ledger-support.ts'

// Goal: a batch of events reads the same as one event at a time, and a batch never exceeds its limit of deliveries.
// Method: five events in a real ledger: one settled, three with open deliveries, one without any.

let database: TestDatabase
/** Every event has three deliveries, except the last, which has none. */
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

test('every event comes with its own deliveries in a stable order, even if its id is requested twice', async () => {
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

test('one read returns events up to the limit of deliveries, and always at least one event', async () => {
  const unknown = randomUUID()
  expect(await counts(ids, 100)).toEqual([3, 3, 3, 3, 0])
  expect(await counts(ids, 8)).toEqual([3, 3, 'later', 'later', 'later'])
  expect(await counts([unknown, ...ids], 1)).toEqual([null, 3, 'later', 'later', 'later', 'later'])
  expect(await counts([], 100)).toEqual([])
})

test('settledEvents returns the planned events without an open delivery', async () => {
  const [a = '', , , , none = ''] = ids
  expect(await settledEvents(database.db, [...ids, randomUUID()])).toEqual(new Set([a, none]))
})
