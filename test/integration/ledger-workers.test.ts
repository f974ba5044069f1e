import type { WorkerId } from '@curfew/domain'
import {
  beat,
  claimDue,
  type Database,
  planEvents,
  reclaimLeases,
  releaseUnheld,
  retireWorker,
  type Statement,
  settleDeliveries,
} from '@curfew/ledger'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { eventually } from '../support/curfew.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { recording, scansOf } from '../support/explain.ts'
import {
  bindingsOf,
  both,
  count,
  newEvent,
  newLease,
  newWorker,
  planFor,
  planned,
  readDeliveries,
  register,
  settledAs,
  silence,
} from './ledger-support.ts'

// Goal: the deliveries of a dead worker continue at other workers, and a living worker loses none.
// Method: workers whose last heartbeat is moved into the past; no test waits for a lease to run out.

let database: TestDatabase
let registry: Awaited<ReturnType<typeof register>>
let living: WorkerId
let silent: WorkerId

beforeAll(async () => {
  database = await createTestDatabase()
  registry = await register(database.db, 2)
})
afterAll(() => database.drop())
beforeEach(async () => {
  await database.db.query('truncate events, deliveries, attempts, workers, leases, breakers')
  living = await newWorker(database.db)
  silent = await newWorker(database.db)
})

const LEASE_MS = 10_000
const states = async () => {
  const rows = await readDeliveries(database.db)
  return Object.fromEntries(
    rows.map(({ id, state, leased_by }) => [id, state === 'in_flight' ? leased_by : state]),
  )
}

describe('reclaimLeases', () => {
  test('returns exactly the deliveries of silent workers, due at once and with unchanged counts', async () => {
    const kept = await planned(database.db, registry, { workerId: living, count: 5 })
    const done = await planned(database.db, registry, { workerId: silent, count: 2 })
    await settleDeliveries(database.db, {
      batch: done.map((delivery) => settledAs(delivery)),
      workerId: silent,
      now: new Date(),
    })
    await planned(database.db, registry, { workerId: silent, count: 3, leased: false })
    const claimed = await claimDue(database.db, {
      lease: newLease(silent),
      now: new Date(),
      slots: new Map(),
      otherSlots: both(9),
      limit: 9,
    })
    const born = await planned(database.db, registry, { workerId: silent, count: 4 })
    const before = await states()
    await silence(database.db, silent, LEASE_MS + 1)

    expect(await reclaimLeases(database.db, { leaseMs: LEASE_MS })).toBe(claimed.length + born.length)
    const returned = Object.fromEntries([...claimed, ...born].map(({ id }) => [id, 'pending']))
    expect(await states()).toEqual({ ...before, ...returned })
    for (const row of (await readDeliveries(database.db)).filter(({ id }) => id in returned)) {
      expect(row).toMatchObject({ attempts: 0, retries: 0, refusals: 0, settled_at: null })
      expect(row.due_at?.getTime()).toBeLessThanOrEqual(Date.now())
    }
    expect(kept.every(({ id }) => before[id] === living)).toBe(true)
    expect(await beat(database.db, living)).toMatchObject({ alive: true, workers: 1, rank: 0 })
    expect(await beat(database.db, silent)).toMatchObject({ alive: false })
    expect(await reclaimLeases(database.db, { leaseMs: LEASE_MS })).toBe(0)
  })

  test('takes nothing from a worker whose heartbeat is nearly too old', async () => {
    await planned(database.db, registry, { workerId: silent })
    await silence(database.db, silent, LEASE_MS - 2_000)
    expect(await reclaimLeases(database.db, { leaseMs: LEASE_MS })).toBe(0)
    expect(await beat(database.db, silent)).toMatchObject({ alive: true })
  })

  test('finds deliveries that a worker with a wrong clock leased a day ago', async () => {
    const batch = [planFor(newEvent(), bindingsOf(registry))]
    const now = new Date(Date.now() - 86_400_000)
    await planEvents(database.db, {
      batch,
      lease: newLease(silent),
      registryRevision: registry.revision,
      now,
    })
    await silence(database.db, silent, LEASE_MS + 1)
    expect(await reclaimLeases(database.db, { leaseMs: LEASE_MS })).toBe(2)
  })

  test('by several workers at once returns every delivery once', async () => {
    await planned(database.db, registry, { workerId: silent, count: 50 })
    await silence(database.db, silent, LEASE_MS + 1)
    const returned = await Promise.all(
      Array.from({ length: 6 }, () => reclaimLeases(database.db, { leaseMs: LEASE_MS })),
    )
    expect(returned.toSorted((a, b) => a - b)).toEqual([0, 0, 0, 0, 0, 100])
  })

  test('misses no delivery that is being leased at the same time', async () => {
    await silence(database.db, silent, LEASE_MS + 1)
    const batch = [planFor(newEvent(), bindingsOf(registry))]
    await database.db.withConnection(async (connection) => {
      await connection.query('begin')
      await connection.query({ text: 'select from workers where id = $1 for key share', values: [silent] })
      const reclaiming = reclaimLeases(database.db, { leaseMs: LEASE_MS })
      await eventually(async () => {
        expect(
          await count(
            database.db,
            "pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()",
          ),
        ).toBe(1)
      })
      // The lease is created in the transaction that reclaimLeases waits for.
      const [owed] = batch[0]?.deliveries ?? []
      await connection.query({
        text: `insert into deliveries (id, event_id, binding_id, state, lane, planned_at, leased_by, leased_at)
               values ($1, $2, 1, 'in_flight', 'interactive', now(), $3, now())`,
        values: [owed?.delivery.id, owed?.delivery.eventId, silent],
      })
      await connection.query({
        text: 'insert into leases (worker_id, number, leased_at, delivery_ids) values ($1, 1, now(), $2)',
        values: [silent, [owed?.delivery.id]],
      })
      await connection.query('commit')
      expect(await reclaiming).toBe(1)
    })
  })
})

describe('the search for leases', () => {
  test.each(['custom', 'generic'] as const)('scans no settled deliveries (%s plan)', async (how) => {
    const db = recording(database.db)
    await releaseUnheld(db, { workerId: living, asking: [], held: [], upTo: 1 })
    await reclaimLeases(db, { leaseMs: LEASE_MS })
    const [unheld, , orphaned] = db.statements
    if (unheld === undefined || orphaned === undefined) throw new Error('expected two searches')
    const held = await planned(database.db, registry, { workerId: living, count: 20 })
    await database.db.query(
      `insert into deliveries (id, event_id, binding_id, state, lane, planned_at, leased_by, leased_at, attempts,
         settled_at, level)
       select gen_random_uuid(), gen_random_uuid(), 1, 'acknowledged', 'interactive', now(), $1, now(), 1, now(), 'done'
         from generate_series(1, 100000)`,
      [living],
    )
    await database.db.query('vacuum analyze deliveries')
    const lookups = async (search: Statement) =>
      (await scansOf(database.db, search, how)).filter(({ relation }) => relation === 'deliveries')

    const kept = `{${held.slice(0, 5).map(({ id }) => id)}}`
    const ofLiving = await lookups({ ...unheld, values: [living, '{}', kept, 1_000_000, '{}', '{}'] })
    await database.db.query('delete from workers where id = $1', [living])
    const ofDead = await lookups(orphaned)
    for (const scans of [ofLiving, ofDead]) {
      // Every delivery is looked up once, and once more for its update.
      expect(scans.length).toBeGreaterThan(1)
      expect(scans.map((scan) => scan.how)).not.toContain('Seq Scan')
    }
  })
})

describe('retireWorker', () => {
  test('returns the deliveries that the worker still leases, and none of others', async () => {
    const others = await planned(database.db, registry, { workerId: living, count: 3 })
    const own = await planned(database.db, registry, { workerId: silent, count: 3 })
    expect(await retireWorker(database.db, silent)).toBe(6)
    expect(await states()).toEqual({
      ...Object.fromEntries(others.map(({ id }) => [id, living])),
      ...Object.fromEntries(own.map(({ id }) => [id, 'pending'])),
    })
    expect(await beat(database.db, silent)).toMatchObject({ alive: false })
    expect(await retireWorker(database.db, silent)).toBe(0)
  })

  test('keeps first messages while another worker reclaims leases at the same time', async () => {
    const own = await planned(database.db, registry, { workerId: silent })
    await database.db.query("update deliveries set first_message = 'sealed'")
    const { db } = database
    // Runs the other worker's statement as soon as the retired worker is deleted.
    const racing: Database = Object.assign(Object.create(db) as Database, {
      async query(statement: Statement | string, values?: readonly unknown[]) {
        const result = await db.query(statement, values)
        await reclaimLeases(db, { leaseMs: LEASE_MS })
        return result
      },
    })
    await retireWorker(racing, silent)
    const { rows } = await db.query('select id, state from deliveries where first_message is not null')
    expect(rows).toHaveLength(own.length)
    for (const row of rows) expect(row).toMatchObject({ state: 'pending' })
  })
})
