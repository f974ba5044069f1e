import { randomUUID } from 'node:crypto'
import type { DeliveryId, WorkerId } from '@curfew/domain'
import {
  announceDeadLetters,
  createDeliveryLedger,
  createReplay,
  type DeliveryLedger,
  takeReplayBatch,
} from '@curfew/ledger'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { ALL } from './dead-letters-support.ts'
import { both, newLease, newWorker, planned, readDelivery, register, settledAs } from './ledger-support.ts'

// Goal: a counter at its limit stays there, and never fails its statement.
// Method: one delivery with counters at the limits of smallint and of integer, in one batch with others.

let database: TestDatabase
let registry: Awaited<ReturnType<typeof register>>
let ledger: DeliveryLedger
let workerId: WorkerId

beforeAll(async () => {
  database = await createTestDatabase()
  registry = await register(database.db, 1)
  ledger = createDeliveryLedger(database.db)
})
afterAll(() => database.drop())
beforeEach(async () => {
  await database.db.query(
    'truncate events, deliveries, attempts, workers, leases, breakers, replays, journal',
  )
  workerId = await newWorker(database.db)
})

const LIMITS = [32_767, 2_147_483_647]

const setCounters = (id: DeliveryId, attempts: number, generation = 0) =>
  database.db.query('update deliveries set attempts = $2, generation = $3, replay_id = $4 where id = $1', [
    id,
    attempts,
    generation,
    generation === 0 ? null : randomUUID(),
  ])

test.each(LIMITS)('a delivery with %i attempts is settled with the others of its batch', async (attempts) => {
  const deliveries = await planned(database.db, registry, { workerId, count: 3 })
  const [first, ...others] = deliveries
  if (first === undefined) throw new Error('no delivery was planned')
  await setCounters(first.id, attempts)
  const worn = { ...first, attempts }
  const lost = await ledger.settleDeliveries({
    batch: [settledAs(worn), ...others.map((delivery) => settledAs(delivery))],
    workerId,
    now: new Date(),
  })
  expect([...lost]).toEqual([])
  expect(await readDelivery(database.db, first.id)).toMatchObject({
    state: 'acknowledged',
    attempts: Math.min(attempts + 1, 2_147_483_647),
  })
  for (const { id } of others) expect((await readDelivery(database.db, id)).state).toBe('acknowledged')
})

test.each(LIMITS)(
  'a dead letter of generation %i is replayed and announced with the others',
  async (generation) => {
    const deliveries = await planned(database.db, registry, { workerId, count: 3 })
    const [first] = deliveries
    if (first === undefined) throw new Error('no delivery was planned')
    await ledger.settleDeliveries({
      batch: deliveries.map((delivery) => settledAs(delivery, { state: 'dead_lettered', reason: 'refused' })),
      workerId,
      now: new Date(Date.now() - 1_000),
    })
    await setCounters(first.id, 1, generation)
    const published: string[] = []
    const announced = await announceDeadLetters(database.db, {
      limit: 10,
      windowMs: 0,
      publish: async (records) => void published.push(...records.map(({ id }) => id)),
    })
    expect([announced, published.length]).toEqual([3, 3])
    const job = await createReplay(database.db, {
      id: randomUUID(),
      filter: ALL,
      includeLapsed: false,
      requestedBy: 'test',
    })
    expect(await takeReplayBatch(database.db, { job, limit: 10, pauseMs: 0 })).toEqual({
      taken: 3,
      state: 'running',
    })
    const { rows } = await database.db.query<{ generation: number }>(
      'select generation from deliveries where id = $1',
      [first.id],
    )
    expect(rows[0]?.generation).toBe(Math.min(generation + 1, 2_147_483_647))
    const claimed = await ledger.claimDue({
      lease: newLease(workerId),
      now: new Date(),
      slots: new Map(),
      otherSlots: both(10),
      limit: 10,
    })
    expect(claimed.length).toBe(3)
    expect([
      ...(await ledger.settleDeliveries({
        batch: claimed.map((one) => settledAs(one)),
        workerId,
        now: new Date(),
      })),
    ]).toEqual([])
  },
)
