import { hash, randomUUID } from 'node:crypto'
import type { AttemptOutcome, InFlightDelivery, Settlement } from '@curfew/domain'
import {
  claimDue,
  createDatabase,
  createReplay,
  findToday,
  findUnreceipted,
  type JournalEntry,
  planEvents,
  projectJournal,
  settleDeliveries,
  takeReplayBatch,
} from '@curfew/ledger'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { ALL } from './dead-letters-support.ts'
import {
  bindingsOf,
  newEvent,
  newLease,
  newWorker,
  pile,
  planFor,
  register,
  settledAs,
} from './ledger-support.ts'

// Goal: an event is found for its receipt when its last delivery is settled, whatever its id, and however large the ledger is.
// Method: the real statements on a real database.

let database: TestDatabase
let registry: Awaited<ReturnType<typeof register>>
let workerId: Awaited<ReturnType<typeof newWorker>>
beforeAll(async () => {
  database = await createTestDatabase()
  registry = await register(database.db, 2)
  workerId = await newWorker(database.db)
})
afterAll(() => database.drop())

async function plan(events: readonly ReturnType<typeof newEvent>[], owing = true) {
  const batch = events.map((event) => planFor(event, owing ? bindingsOf(registry) : [], { leased: true }))
  const request = { batch, lease: newLease(workerId), registryRevision: registry.revision, now: new Date() }
  expect(await planEvents(database.db, request)).toMatchObject({ ok: true })
  return batch.map(({ deliveries }) => deliveries.map(({ delivery }) => delivery))
}

const settle = (deliveries: Awaited<ReturnType<typeof plan>>[number]) =>
  settleDeliveries(database.db, {
    batch: deliveries.map((delivery) => settledAs(delivery)),
    workerId,
    now: new Date(),
  })

/** Empties the journal. @returns its entries. */
async function entriesOf(): Promise<readonly JournalEntry[]> {
  const all: JournalEntry[] = []
  const projector = async (_: unknown, entries: readonly JournalEntry[]) => void all.push(...entries)
  while ((await projectJournal(database.db, { limit: 100, projectors: [projector] })) !== 0);
  return all
}

test('an event is found only when its last delivery is settled', async () => {
  const event = newEvent()
  const [[first, second] = []] = await plan([event])
  if (first === undefined || second === undefined) throw new Error('expected two deliveries')
  await settle([first])
  expect(await findUnreceipted(database.db, await entriesOf())).toEqual([])
  await settle([second])
  const found = await findUnreceipted(database.db, await entriesOf())
  expect(found).toMatchObject([{ event: { id: event.id }, revision: 2, replaces: null, withinMs: 5_000 }])
  expect(found[0]?.targets.map(({ state, attempts }) => [state, attempts])).toEqual([
    ['acknowledged', 1],
    ['acknowledged', 1],
  ])
})

test('a delivery keeps the time of its first attempt and the outcome of its last, even if its attempts are deleted', async () => {
  const event = newEvent()
  const [[delivery, other] = []] = await plan([event])
  if (delivery === undefined || other === undefined) throw new Error('expected two deliveries')
  const unavailable: AttemptOutcome = {
    kind: 'unavailable',
    status: 503,
    failure: null,
    retryAfterMs: null,
    error: null,
    errorDescription: null,
  }
  const first = settledAs(delivery, { state: 'pending', dueAt: new Date(), retries: 1, refusals: 0 }, [
    unavailable,
  ])
  const firstMs = first.attempts[0]?.startedAt.getTime()
  const write = (batch: Parameters<typeof settleDeliveries>[1]['batch']) =>
    settleDeliveries(database.db, { batch, workerId, now: new Date() })
  await write([first, settledAs(other, { state: 'lapsed' }, [])])
  await database.db.query('delete from attempts where delivery_id = $1', [delivery.id])
  const slots = new Map(bindingsOf(registry).map(({ id }) => [id, { interactive: 1, bulk: 1 }]))
  const request = {
    lease: newLease(workerId),
    now: new Date(),
    slots,
    otherSlots: { interactive: 1, bulk: 1 },
    limit: 9,
  }
  const claimed = (await claimDue(database.db, request)).find(({ id }) => id === delivery.id)
  if (claimed === undefined) throw new Error('expected the due delivery to be claimed')
  await write([settledAs(claimed)])
  const [found] = await findUnreceipted(database.db, await entriesOf())
  expect(new Map(found?.targets.map((target) => [target.state, target]))).toEqual(
    new Map([
      [
        'acknowledged',
        expect.objectContaining({
          attempts: 2,
          firstAttemptMs: firstMs,
          status: 200,
          tokenDigest: hash('sha256', 'a token', 'base64url'),
        }),
      ],
      [
        'lapsed',
        expect.objectContaining({ attempts: 0, firstAttemptMs: null, status: null, tokenDigest: null }),
      ],
    ]),
  )
})

describe('the time of the first attempt', () => {
  afterEach(entriesOf)
  const UNSENT: AttemptOutcome = { kind: 'undeliverable', reason: 'address_not_allowed', detail: '10.0.0.1' }
  const startMs = (place: number) => Date.parse('2026-11-21T05:00:00Z') + place * 1_000
  /** Settles with attempts that start a second apart. */
  const write = (
    delivery: InFlightDelivery,
    outcomes: readonly AttemptOutcome[],
    settlement?: Settlement,
  ) => {
    const settled = settledAs(delivery, settlement, outcomes)
    const attempts = settled.attempts.map((made) => ({ ...made, startedAt: new Date(startMs(made.number)) }))
    return settleDeliveries(database.db, { batch: [{ ...settled, attempts }], workerId, now: new Date() })
  }
  const claimed = async (id: string) => {
    const slots = { interactive: 9, bulk: 9 }
    const request = {
      lease: newLease(workerId),
      now: new Date(),
      slots: new Map(),
      otherSlots: slots,
      limit: 9,
    }
    const found = (await claimDue(database.db, request)).find((delivery) => delivery.id === id)
    if (found === undefined) throw new Error(`expected ${id} to be due`)
    return found
  }
  const REFUSED: AttemptOutcome = { kind: 'refused', status: 400, error: null, errorDescription: null }
  const ACKNOWLEDGED: AttemptOutcome = { kind: 'acknowledged', level: 'done', status: 200 }
  const today = async (eventId: string) => {
    const [found] = await findToday(database.db, { eventIds: [eventId], size: 0 })
    return [found?.targets.map(({ firstAttemptMs }) => firstAttemptMs), found?.attemptsDiffer]
  }
  const one = async () => {
    const event = newEvent()
    const [[delivery, other] = []] = await plan([event])
    if (delivery === undefined || other === undefined) throw new Error('expected two deliveries')
    await database.db.query('delete from deliveries where id = $1', [other.id])
    return { event, delivery }
  }

  test('is that of the first attempt that sent a message', async () => {
    const { event, delivery } = await one()
    await write(delivery, [UNSENT, UNSENT], { state: 'pending', dueAt: new Date(), retries: 1, refusals: 0 })
    await write(await claimed(delivery.id), [UNSENT, ACKNOWLEDGED, ACKNOWLEDGED])
    expect(await today(event.id)).toEqual([[startMs(4)], false])
    await database.db.query(
      "update deliveries set first_attempt_at = first_attempt_at - interval '1 ms' where id = $1",
      [delivery.id],
    )
    expect(await today(event.id)).toEqual([[startMs(4) - 1], true])
    // Without the attempts before it, another attempt may have been the first that was sent.
    await database.db.query('delete from attempts where delivery_id = $1 and number = 1', [delivery.id])
    expect(await today(event.id)).toEqual([[startMs(4) - 1], false])
  })

  test('comes with the replay of a dead letter that sent nothing, and a further replay keeps it', async () => {
    const { event, delivery } = await one()
    const replay = async () => {
      const id = randomUUID()
      const filter = { ...ALL, ids: [delivery.id] }
      const job = await createReplay(database.db, { id, filter, includeLapsed: false, requestedBy: 'test' })
      expect(await takeReplayBatch(database.db, { job, limit: 9, pauseMs: 0 })).toMatchObject({ taken: 1 })
      return claimed(delivery.id)
    }
    await write(delivery, [UNSENT], { state: 'dead_lettered', reason: 'misconfigured' })
    expect(await today(event.id)).toEqual([[null], false])
    await write(await replay(), [REFUSED], { state: 'dead_lettered', reason: 'refused' })
    expect(await today(event.id)).toEqual([[startMs(2)], false])
    await write(await replay(), [ACKNOWLEDGED])
    expect(await today(event.id)).toEqual([[startMs(2)], false])
  })
})

test('events with similar ids are kept apart, and an event without deliveries is found too', async () => {
  const ids = ['1', '2', '3'].map((digit) => `00000000-0000-4000-8000-00000000000${digit}`)
  const [owing, waiting, none] = ids.map((id) => newEvent({ id: id as never }))
  if (owing === undefined || waiting === undefined || none === undefined)
    throw new Error('expected three events')
  const [settled = []] = await plan([owing, waiting])
  await plan([none], false)
  await settle(settled)
  const found = await findUnreceipted(database.db, await entriesOf())
  expect(found.map(({ event }) => event.id).toSorted()).toEqual([owing.id, none.id])
  expect(found.map(({ targets }) => targets.length).toSorted()).toEqual([0, 2])
})

test.each(['force_custom_plan', 'force_generic_plan'])(
  'finding events for receipts scans no large table (%s)',
  async (mode) => {
    const [binding] = bindingsOf(registry)
    if (binding === undefined) throw new Error('expected a binding')
    await pile(database.db, binding.id, 50_000, 'acknowledged')
    await database.db.query(`
    insert into attempts (delivery_id, number, started_at, duration_ms, outcome, worker_id)
    select id, 1, settled_at, 1, 'acknowledged', id from deliveries where settled_at is not null on conflict do nothing`)
    const [settled = []] = await plan([newEvent()])
    await settle(settled)
    const entries = await entriesOf()
    await database.db.query('vacuum analyze deliveries, attempts')
    const db = createDatabase(database.url, { poolMax: 1, applicationName: 'test' })
    const scans = async () => {
      await db.query('select pg_stat_force_next_flush()')
      const { rows } = await db.query<{ n: number }>(
        "select sum(seq_scan)::int as n from pg_stat_user_tables where relname ~ '^(deliveries|attempts_)'",
      )
      return rows[0]?.n
    }
    try {
      await db.query(`set plan_cache_mode = ${mode}`)
      const before = await scans()
      for (let n = 0; n < 3; n++) expect(await findUnreceipted(db, entries)).toHaveLength(1)
      expect(await scans()).toBe(before)
    } finally {
      await db.end()
    }
  },
)
