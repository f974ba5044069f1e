import { randomUUID } from 'node:crypto'
import {
  createPartitions,
  createReplay,
  dropAttempts,
  dropReceipts,
  type SweepPosition,
  settleDeliveries,
  sweepHistory,
  takeReplayBatch,
  withTransaction,
} from '@curfew/ledger'

import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { pileUp } from './dead-letters-support.ts'
import { count, newWorker, planned, register, settledAs } from './ledger-support.ts'

// Goal: retention deletes exactly the rows past their limit, and neither creating nor dropping partitions blocks attempts.
// Method: the real statements, with rows on both sides of every limit.

let database: TestDatabase
beforeEach(async () => {
  database = await createTestDatabase()
  await register(database.db, 2)
})
afterEach(() => database.drop())

const db = () => database.db
const DAY_MS = 86_400_000
const NOW = new Date('2026-03-30T12:00:00Z')
const daysBefore = (days: number) => new Date(NOW.getTime() - days * DAY_MS)

async function attemptAt(time: Date): Promise<string> {
  const id = randomUUID()
  await db().query({
    text: `insert into attempts (delivery_id, number, started_at, duration_ms, outcome, worker_id)
           values ($1, 1, $2, 1, 'acknowledged', $1)`,
    values: [id, time],
  })
  return id
}

async function partitionOf(id: string): Promise<string> {
  const { rows } = await db().query<{ partition: string }>(
    'select tableoid::regclass::text as partition from attempts where delivery_id = $1',
    [id],
  )
  return rows[0]?.partition ?? 'none'
}

describe('partitions of attempts', () => {
  test('are created once for the coming days, and take the attempts of their day', async () => {
    // The days span the end of a month: audit records and receipts have one partition a month.
    expect(await createPartitions(db(), { now: NOW, days: 3 })).toEqual([
      'attempts_20260331',
      'attempts_20260401',
      'attempts_20260402',
      'audit_202604',
      'receipts_202604',
    ])
    expect(await createPartitions(db(), { now: NOW, days: 4 })).toEqual(['attempts_20260403'])
    const places = await Promise.all(
      [
        '2026-03-30T23:59:59.999Z',
        '2026-03-31T00:00:00Z',
        '2026-03-31T23:59:59.999Z',
        '2026-04-01T00:00:00Z',
        '2026-04-04T00:00:00Z',
      ].map(async (time) => partitionOf(await attemptAt(new Date(time)))),
    )
    expect(places).toEqual([
      'attempts_default',
      'attempts_20260331',
      'attempts_20260331',
      'attempts_20260401',
      'attempts_default',
    ])
  })

  test('are not created for a day about to begin, nor for a day with attempts in the default partition', async () => {
    await attemptAt(new Date('2026-04-01T12:00:00Z'))
    const late = new Date('2026-03-30T23:30:00Z')
    expect(await createPartitions(db(), { now: late, days: 3 })).toEqual([
      'attempts_20260402',
      'audit_202604',
      'receipts_202604',
    ])
  })

  test('are created by one of several bookkeepers, without an error in the others', async () => {
    const made = await Promise.all([1, 2, 3, 4].map(() => createPartitions(db(), { now: NOW, days: 7 })))
    await createPartitions(db(), { now: NOW, days: 7 })
    expect(new Set(made.flat()).size).toBe(made.flat().length)
    expect(await count(db(), "pg_inherits where inhparent = 'attempts'::regclass")).toBe(8)
  })

  test('are dropped when their whole day is older; older attempts are deleted from the default partition', async () => {
    const lost = await attemptAt(daysBefore(40))
    const kept = await attemptAt(daysBefore(29))
    await createPartitions(db(), { now: daysBefore(33), days: 3 })
    const ids = await Promise.all([32, 31, 30].map((days) => attemptAt(daysBefore(days))))
    // An operator's copy, whose name looks like that of a partition.
    await db().query('create table attempts_20250101 as select * from attempts')
    const first = await dropAttempts(db(), { before: daysBefore(30), limit: 1 })
    expect(first).toEqual({ dropped: ['attempts_20260226', 'attempts_20260227'], more: true })
    expect(await dropAttempts(db(), { before: daysBefore(30), limit: 1 })).toEqual({
      dropped: [],
      more: false,
    })
    const left = await Promise.all([lost, ...ids, kept].map(partitionOf))
    expect(left).toEqual(['none', 'none', 'none', 'attempts_20260228', 'attempts_default'])
    expect((await db().query('select from attempts_20250101')).rows).not.toEqual([])
    await db().query('drop table attempts_20250101')
  })

  test('are created without blocking attempts that are recorded at the same time', async () => {
    const worker = await newWorker(db())
    const registry = await register(db(), 2)
    const deliveries = await planned(db(), registry, { workerId: worker, count: 20 })
    const now = new Date()
    await Promise.all([
      createPartitions(db(), { now, days: 7 }),
      ...deliveries.map((delivery) =>
        settleDeliveries(db(), { batch: [settledAs(delivery)], workerId: worker, now }),
      ),
    ])
    expect(await count(db(), 'attempts')).toBe(deliveries.length)
  })
})

describe('receipts', () => {
  test('are dropped by the month when the whole month is older; older receipts are deleted from the default partition', async () => {
    await createPartitions(db(), { now: daysBefore(60), days: 7 })
    const planned = [
      '2025-12-31T23:59:59Z',
      '2026-02-01T00:00:00Z',
      '2026-02-28T23:59:59Z',
      '2026-03-01T00:00:00Z',
    ]
    for (const [index, time] of planned.entries()) {
      await db().query(
        `insert into receipts (given_id, event_id, revision, planned_at, log_index, settled_at, payload)
         values (gen_random_uuid(), gen_random_uuid(), 0, $1, $2, $1, '{}')`,
        [time, index],
      )
    }
    const left = async () =>
      (await db().query<{ at: number }>('select log_index as at from receipts order by 1')).rows.map(
        ({ at }) => at,
      )
    const before = new Date('2026-02-28T23:59:59Z')
    expect(await dropReceipts(db(), { before, limit: 1 })).toEqual({ dropped: [], more: true })
    expect(await left()).toEqual([1, 2, 3])
    const march = { before: new Date('2026-03-01T00:00:00Z'), limit: 1 }
    expect(await dropReceipts(db(), march)).toEqual({ dropped: ['receipts_202602'], more: false })
    expect(await left()).toEqual([3])
  })
})

describe('events and deliveries', () => {
  /** Inserts an event with one delivery for every state. @returns the id of the event. */
  async function history(
    plannedDaysAgo: number,
    states: readonly (readonly [state: string, settledDaysAgo: number | null])[],
  ): Promise<string> {
    const worker = await newWorker(db())
    const registry = await register(db(), states.length)
    const bindings = [...registry.bindings.values()].slice(0, states.length)
    const deliveries = await planned(db(), registry, { workerId: worker, leased: false, bindings })
    const [{ eventId } = { eventId: '' }] = deliveries
    await db().query('update events set planned_at = $2 where id = $1', [eventId, daysBefore(plannedDaysAgo)])
    for (const [index, [state, settledDaysAgo]] of states.entries()) {
      await db().query({
        text: `update deliveries set state = $2, due_at = case when $2 = 'pending' then now() end, attempts = 1,
                 settled_at = $3, level = case when $2 = 'acknowledged' then 'done' end,
                 dead_letter_reason = case when $2 = 'dead_lettered' then 'refused' end where id = $1`,
        values: [deliveries[index]?.id, state, settledDaysAgo === null ? null : daysBefore(settledDaysAgo)],
      })
    }
    return eventId
  }

  async function sweep(limit = 500): Promise<{ events: number; deliveries: number }> {
    const total = { events: 0, deliveries: 0 }
    for (let after: SweepPosition | null = null; ; ) {
      const swept = await sweepHistory(db(), {
        before: daysBefore(30),
        deadBefore: daysBefore(90),
        after,
        limit,
      })
      total.events += swept.events
      total.deliveries += swept.deliveries
      after = swept.next
      if (after === null) return total
    }
  }
  const left = async () =>
    (await db().query<{ id: string }>('select id from events order by planned_at')).rows.map(({ id }) => id)

  test('are deleted together when every delivery is settled and older', async () => {
    await history(31, [
      ['acknowledged', 31],
      ['lapsed', 31],
    ])
    await history(95, [
      ['dead_lettered', 91],
      ['acknowledged', 95],
    ])
    const kept = [
      // Its dead letter has the longer retention.
      await history(60, [
        ['dead_lettered', 60],
        ['acknowledged', 60],
      ]),
      // One delivery is not settled.
      await history(50, [
        ['pending', null],
        ['acknowledged', 50],
      ]),
      // One delivery was settled yesterday.
      await history(40, [
        ['acknowledged', 1],
        ['acknowledged', 40],
      ]),
      await history(29, [['acknowledged', 29]]),
    ]
    expect(await sweep(1)).toEqual({ events: 2, deliveries: 4 })
    expect(await left()).toEqual(kept)
    expect(await count(db(), 'deliveries')).toBe(7)
    expect(await sweep()).toEqual({ events: 0, deliveries: 0 })
  })

  test('are deleted with a confirmation that is over, and kept with a pending one', async () => {
    const party = '(select min(id) from relying_parties)'
    const confirmed = await history(31, [['acknowledged', 31]])
    const waiting = await history(32, [['acknowledged', 31]])
    await db().query({
      text: `insert into confirmations (event_id, relying_party_id, state, deadline_at, due_at, settled_at)
             values ($1, ${party}, 'failed', now(), null, now()), ($2, ${party}, 'pending', now(), now(), null)`,
      values: [confirmed, waiting],
    })
    expect(await sweep()).toEqual({ events: 1, deliveries: 1 })
    expect(await left()).toEqual([waiting])
    expect(await count(db(), 'confirmations')).toBe(1)
  })

  test('are deleted if the event has no deliveries', async () => {
    await history(31, [['acknowledged', 31]])
    await db().query('delete from deliveries')
    expect(await sweep()).toEqual({ events: 1, deliveries: 0 })
  })

  test('are kept if a replay puts the delivery back at the same time', async () => {
    await pileUp(db(), { clientId: 'rp-0', count: 3, secondsAgo: 100 * 86_400 })
    const job = await createReplay(db(), {
      id: randomUUID(),
      filter: { issuer: null, clientIds: null, channel: null, reason: null, from: null, to: null, ids: null },
      includeLapsed: false,
      requestedBy: 'test',
    })
    const old = new Date(Date.now() - 90 * DAY_MS)
    const sweeping = await withTransaction(db(), async (transaction) => {
      // The update of a replay batch, not committed yet.
      await transaction.query(
        `update deliveries set state = 'pending', due_at = now(), settled_at = null, dead_letter_reason = null,
                generation = 1, replay_id = $1 where id = (select min(id::text)::uuid from deliveries)`,
        [job.id],
      )
      const swept = sweepHistory(db(), { before: old, deadBefore: old, after: null, limit: 10 })
      await expect.poll(() => count(db(), 'pg_locks where not granted')).toBeGreaterThan(0)
      return { swept }
    })
    expect(await sweeping.swept).toEqual({ events: 2, deliveries: 2, next: null })
    expect(await count(db(), "deliveries d join events e on e.id = d.event_id where state = 'pending'")).toBe(
      1,
    )
    expect(await takeReplayBatch(db(), { job, limit: 10, pauseMs: 0 })).toEqual({ taken: 0, state: 'done' })
  })
})
