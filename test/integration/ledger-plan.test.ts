import { type EventId, uuidV7, type WorkerId } from '@curfew/domain'
import { disableBinding, planEvents, readRegistry, retireWorker } from '@curfew/ledger'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { eventually } from '../support/curfew.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import {
  bindingsOf,
  count,
  newEvent,
  newLease,
  newWorker,
  planFor,
  readDeliveries,
  register,
  registerParty,
} from './ledger-support.ts'

// Goal: an accepted event has exactly one delivery for every binding, however often and wherever its record is planned.
// Method: the real statements on a real database, with concurrent transactions on their own connections.

let database: TestDatabase
let registry: Awaited<ReturnType<typeof register>>
let workerId: WorkerId

beforeAll(async () => {
  database = await createTestDatabase({ poolMax: 12 })
  registry = await register(database.db, 3)
  workerId = await newWorker(database.db)
})
afterAll(() => database.drop())
beforeEach(async () => {
  await database.db.query('truncate events, deliveries, attempts')
})

const planNow = (batch: Parameters<typeof planEvents>[1]['batch'], as: WorkerId = workerId) =>
  planEvents(database.db, {
    batch,
    lease: newLease(as),
    registryRevision: registry.revision,
    now: new Date(),
  })

/** Waits until that many statements wait for a lock. */
const lockWaiters = (waiters: number) =>
  eventually(async () => {
    const waiting = "pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    expect(await count(database.db, waiting)).toBe(waiters)
  })

describe('planning the same batch again', () => {
  test('writes nothing the second time, and reports no event as planned', async () => {
    const batch = [newEvent(), newEvent({ sub: 'bob' })].map((event) => planFor(event, bindingsOf(registry)))
    expect(await planNow(batch)).toEqual({
      ok: true,
      planned: new Set(batch.map(({ event }) => event.id)),
      conflicts: new Set(),
      needless: new Set(),
    })
    const before = await readDeliveries(database.db)
    expect(before).toHaveLength(6)
    expect(await planNow(batch)).toEqual({
      ok: true,
      planned: new Set(),
      conflicts: new Set(),
      needless: new Set(),
    })
    expect(await readDeliveries(database.db)).toEqual(before)
    expect(await count(database.db, 'events')).toBe(2)
  })

  test('by many workers at the same time gives every event to exactly one of them', async () => {
    const batch = Array.from({ length: 50 }, () => planFor(newEvent(), bindingsOf(registry)))
    const workers = await Promise.all(Array.from({ length: 8 }, () => newWorker(database.db)))
    // Two orders, as after a rebalance between two consumers: the workers must not deadlock.
    const results = await Promise.all(
      workers.map((worker, index) => planNow(index % 2 === 0 ? batch : batch.toReversed(), worker)),
    )
    const winners = new Map<EventId, WorkerId[]>()
    for (const [index, result] of results.entries()) {
      if (!result.ok) throw new Error(result.why)
      expect(result.conflicts).toEqual(new Set())
      for (const id of result.planned)
        winners.set(id, [...(winners.get(id) ?? []), workers[index] as WorkerId])
    }
    expect([...winners.values()].map((of) => of.length)).toEqual(batch.map(() => 1))
    const rows = await readDeliveries(database.db)
    expect(rows).toHaveLength(150)
    for (const row of rows) expect([row.leased_by]).toEqual(winners.get(row.event_id as EventId))
  })

  test('plans only the events of the batch that are new', async () => {
    const known = planFor(newEvent(), bindingsOf(registry))
    const fresh = planFor(newEvent({ sub: 'bob' }), bindingsOf(registry))
    await planNow([known])
    expect(await planNow([known, fresh])).toEqual({
      ok: true,
      planned: new Set([fresh.event.id]),
      conflicts: new Set(),
      needless: new Set(),
    })
    expect(await readDeliveries(database.db)).toHaveLength(6)
  })
})

describe('an event id with other content', () => {
  const id = uuidV7(new Date(), new Uint8Array(10))

  test('is reported as a conflict and changes nothing', async () => {
    await planNow([planFor(newEvent({ id, sub: 'alice' }), bindingsOf(registry))])
    const other = planFor(newEvent({ id, sub: 'mallory' }), bindingsOf(registry))
    const beside = planFor(newEvent(), bindingsOf(registry))
    expect(await planNow([other, beside])).toEqual({
      ok: true,
      planned: new Set([beside.event.id]),
      conflicts: new Set([id]),
      needless: new Set(),
    })
    const { rows } = await database.db.query('select sub from events where id = $1', [id])
    expect(rows).toEqual([{ sub: 'alice' }])
  })

  test('is reported as a conflict even if the first event is committed while the second waits for its lock', async () => {
    const mine = planFor(newEvent({ id, sub: 'mallory' }), bindingsOf(registry))
    const planning = await database.db.withConnection(async (rival) => {
      await rival.query('begin')
      await rival.query({
        text: `insert into events (id, given_id, digest, iss, sub, scope, include_initiator, occurred_stated, requested_at, lane, occurred_at, accepted_at, planned_at, plan_basis)
               values ($1, $1, '\\x00', 'https://idp.example', 'alice', 'subject', false, true, now(), 'interactive', now(), now(), now(), 'registered')`,
        values: [id],
      })
      const waiting = planNow([mine])
      await lockWaiters(1)
      await rival.query('commit')
      return { waiting }
    })
    expect(await planning.waiting).toEqual({
      ok: true,
      planned: new Set(),
      conflicts: new Set([id]),
      needless: new Set(),
    })
  })
})

describe('planning writes nothing', () => {
  const nothing = async () => [await count(database.db, 'events'), await count(database.db, 'deliveries')]

  test('for a worker that is declared dead', async () => {
    const dead = await newWorker(database.db)
    await retireWorker(database.db, dead)
    expect(await planNow([planFor(newEvent(), bindingsOf(registry))], dead)).toEqual({
      ok: false,
      why: 'worker_lost',
    })
    expect(await nothing()).toEqual([0, 0])
  })

  test('from a revision of the registry that is out of date, after any kind of change', async () => {
    for (const change of [
      () => registerParty(database.db, 'late'),
      async () => {
        const [binding] = bindingsOf(registry)
        const gone = { uri: binding?.uri ?? '', reason: 'gone' }
        await disableBinding(database.db, binding?.id ?? (0 as never), gone)
      },
    ]) {
      await change()
      expect(await planNow([planFor(newEvent(), bindingsOf(registry))])).toEqual({
        ok: false,
        why: 'registry_changed',
      })
      expect(await nothing()).toEqual([0, 0])
      registry = await readRegistry(database.db)
      expect(await planNow([planFor(newEvent(), bindingsOf(registry))])).toMatchObject({ ok: true })
      await database.db.query('truncate events, deliveries')
    }
  })
})

describe('a worker that plans', () => {
  test('cannot be declared dead before its plan is committed; then its leases are returned', async () => {
    const mine = await newWorker(database.db)
    const batch = [planFor(newEvent(), bindingsOf(registry))]
    await database.db.withConnection(async (rival) => {
      await rival.query('begin')
      // The uncommitted insert of the same id blocks the plan, which has locked the worker's row.
      await rival.query({
        text: `insert into events (id, given_id, digest, iss, sub, scope, include_initiator, occurred_stated, requested_at, lane, occurred_at, accepted_at, planned_at, plan_basis)
               values ($1, $1, '\\x00', 'https://idp.example', 'alice', 'subject', false, true, now(), 'interactive', now(), now(), now(), 'registered')`,
        values: [batch[0]?.event.id],
      })
      const planning = planNow(batch, mine)
      await lockWaiters(1)
      const retiring = retireWorker(database.db, mine)
      await lockWaiters(2)
      await rival.query('rollback')
      expect(await planning).toMatchObject({ ok: true, planned: new Set([batch[0]?.event.id]) })
      expect(await retiring).toBe(bindingsOf(registry).length)
    })
    for (const row of await readDeliveries(database.db)) expect(row.state).toBe('pending')
  })
})

describe('a plan', () => {
  test('leases a delivery to the worker that takes it at once, and leaves the others pending and due', async () => {
    const now = new Date('2026-11-21T05:00:00Z')
    const event = newEvent({ lane: 'bulk' })
    const both = planFor(event, bindingsOf(registry))
    const batch = [
      {
        ...both,
        deliveries: both.deliveries.map((owed, index) => ({ ...owed, leased: index > 0 })),
      },
    ]
    await planEvents(database.db, {
      batch,
      lease: newLease(workerId),
      registryRevision: registry.revision,
      now,
    })
    const rows = await readDeliveries(database.db)
    const common = { event_id: event.id, lane: 'bulk', attempts: 0, retries: 0, refusals: 0, planned_at: now }
    const ids = new Set(both.deliveries.slice(1).map(({ delivery }) => String(delivery.id)))
    for (const row of rows) {
      expect(row).toMatchObject(
        ids.has(row.id)
          ? { ...common, state: 'in_flight', due_at: null, leased_by: workerId, leased_at: expect.any(Date) }
          : { ...common, state: 'pending', due_at: now, leased_by: null, leased_at: null },
      )
    }
    expect(rows).toHaveLength(bindingsOf(registry).length)
  })

  test('stores every member of the event', async () => {
    const event = {
      ...newEvent(),
      clients: ['rp-0', 'with "quotes", {braces} and \\'] as never,
      initiator: 'NULL' as never,
      sid: 'null' as never,
      reason: 'compromise' as const,
      includeInitiator: true,
    }
    await planNow([{ ...planFor(event, []), traceparent: '00-aa-bb-01' }])
    const { rows } = await database.db.query('select * from events')
    expect(rows).toEqual([
      expect.objectContaining({
        id: event.id,
        iss: event.iss,
        sub: event.sub,
        sid: 'null',
        scope: 'subject',
        reason: 'compromise',
        initiator: 'NULL',
        include_initiator: true,
        clients: event.clients,
        occurred_at: event.occurredAt,
        accepted_at: event.acceptedAt,
        plan_basis: 'registered',
        traceparent: '00-aa-bb-01',
      }),
    ])
  })
})
