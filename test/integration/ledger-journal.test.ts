import type { InFlightDelivery, Subject } from '@curfew/domain'
import {
  giveUpUnreachable,
  type JournalEntry,
  type Projector,
  planEvents,
  projectJournal,
  projectLeft,
  readProjectionLag,
  settleDeliveries,
  supersedeOlder,
} from '@curfew/ledger'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { bindingsOf, newEvent, newLease, newWorker, planFor, register, settledAs } from './ledger-support.ts'

// Goal: every plan and every settlement, by any statement, reaches every projector exactly once.
// Method: the real statements on a real database.

let database: TestDatabase
let registry: Awaited<ReturnType<typeof register>>
let workerId: Awaited<ReturnType<typeof newWorker>>
const NOW = new Date('2026-11-21T12:00:00.000Z')

beforeAll(async () => {
  database = await createTestDatabase({ poolMax: 8 })
  registry = await register(database.db, 2)
})
afterAll(() => database.drop())
beforeEach(async () => {
  await database.db.query(
    'truncate events, deliveries, attempts, workers, leases, breakers, journal, journal_left',
  )
  workerId = await newWorker(database.db)
})

async function logout(
  sub: string,
  {
    leased = true,
    bindings = bindingsOf(registry),
    ...change
  }: { leased?: boolean; bindings?: ReturnType<typeof bindingsOf>; lane?: 'bulk' } = {},
) {
  const planned = planFor(newEvent({ sub: sub as Subject, ...change }), bindings, { leased })
  const request = {
    batch: [planned],
    lease: newLease(workerId),
    registryRevision: registry.revision,
    now: NOW,
  }
  const result = await planEvents(database.db, request)
  expect(result).toMatchObject({ ok: true })
  return { id: planned.event.id, deliveries: planned.deliveries.map(({ delivery }) => delivery), request }
}

const settle = (delivery: InFlightDelivery, ...rest: [Parameters<typeof settledAs>[1]?]) =>
  settleDeliveries(database.db, { batch: [settledAs(delivery, ...rest)], workerId, now: NOW })

/** A delivery as the journal stores it. */
const journalled = ({ id, bindingId, event }: InFlightDelivery) => ({
  id,
  bindingId,
  acceptedMs: event.acceptedAt.getTime(),
})

/** Projects the whole journal. @returns the entries that the projector received. */
async function projected(limit = 100): Promise<readonly JournalEntry[]> {
  const all: JournalEntry[] = []
  const projector: Projector = async (_, entries) => void all.push(...entries)
  while ((await projectJournal(database.db, { limit, projectors: [projector] })) !== 0);
  return all
}

function settledOf(entries: readonly JournalEntry[]) {
  return entries.flatMap((entry) => (entry.kind === 'settled' ? entry.settled : []))
}

test('an event reaches the projector with all its deliveries, and an event without deliveries reaches it too', async () => {
  const { id, deliveries } = await logout('alice')
  const unowed = await logout('bob', { bindings: [] })
  const bulk = await logout('carol', { lane: 'bulk', bindings: bindingsOf(registry).slice(0, 1) })
  const entries = await projected()
  expect(entries).toEqual([
    { kind: 'planned', at: NOW, eventIds: [id], owed: expect.any(Array) },
    { kind: 'planned', at: NOW, eventIds: [unowed.id], owed: [] },
    {
      kind: 'planned',
      at: NOW,
      eventIds: [bulk.id],
      owed: bulk.deliveries.map((delivery) => ({ ...journalled(delivery), acceptedMs: null })),
    },
  ])
  const [first] = entries
  expect(new Set(first?.kind === 'planned' ? first.owed : [])).toEqual(new Set(deliveries.map(journalled)))
})

test('an event that is planned twice reaches the projector once', async () => {
  const { request } = await logout('alice')
  await projected()
  await planEvents(database.db, request)
  expect(await projected()).toEqual([])
})

test('a settled delivery reaches the projector with its state; a delivery that goes back to pending does not', async () => {
  const [first, second] = (await logout('alice')).deliveries
  if (first === undefined || second === undefined) throw new Error('two relying parties are registered')
  await projected()
  await settle(first)
  await settle(second, { state: 'pending', dueAt: NOW, retries: 1, refusals: 0 })
  expect(settledOf(await projected())).toEqual([
    { ...journalled(first), state: 'acknowledged', level: 'done', generation: 0 },
  ])
})

test('a settlement without a lease does not reach the projector', async () => {
  const [first] = (await logout('alice')).deliveries
  if (first === undefined) throw new Error('two relying parties are registered')
  await settle(first)
  await settle(first)
  expect(settledOf(await projected())).toHaveLength(1)
})

test('a superseded delivery reaches the projector, whichever statement superseded it', async () => {
  const older = await logout('alice', { leased: false })
  await logout('alice', { leased: false })
  const [held] = (await logout('carol')).deliveries
  if (held === undefined) throw new Error('two relying parties are registered')
  await logout('carol', { leased: false })
  await settle(held, { state: 'pending', dueAt: NOW, retries: 1, refusals: 0 })
  await supersedeOlder(database.db, { ids: [held.id], now: NOW })
  const superseded = settledOf(await projected())
  expect(new Set(superseded)).toEqual(
    new Set(
      [...older.deliveries, held].map((delivery) => ({
        ...journalled(delivery),
        state: 'superseded',
        level: null,
        generation: 0,
      })),
    ),
  )
})

test('an unreachable delivery reaches the projector as a dead letter', async () => {
  const { deliveries } = await logout('alice', { leased: false })
  const dueBefore = new Map(deliveries.map(({ bindingId }) => [bindingId, new Date(NOW.getTime() + 1)]))
  expect(await giveUpUnreachable(database.db, { dueBefore, now: NOW, limit: 10 })).toBe(2)
  expect(settledOf(await projected())).toEqual(
    expect.arrayContaining(
      deliveries.map(
        (delivery) =>
          ({ ...journalled(delivery), state: 'dead_lettered', level: null, generation: 0 }) as const,
      ),
    ),
  )
})

test('a projector that fails rolls back the other projectors, and the next round has all entries', async () => {
  await logout('alice')
  const entered: Projector = async (transaction) =>
    void (await transaction.query('update workers set name = $1', ['entered']))
  const failing: Projector = () => Promise.reject(new Error('on purpose'))
  await expect(projectJournal(database.db, { limit: 10, projectors: [entered, failing] })).rejects.toThrow(
    'on purpose',
  )
  const { rows } = await database.db.query<{ name: string }>('select name from workers')
  expect(rows).toEqual([{ name: 'test' }])
  expect(await projected()).toHaveLength(1)
})

test('a named projector that fails delays no other, and catches up on its failed entries later', async () => {
  const { id: bad } = await logout('alice')
  const { id: good } = await logout('bob')
  const kept: JournalEntry[] = []
  const keeping: Projector = async (_, entries) => void kept.push(...entries)
  let broken = true
  const entered: JournalEntry[] = []
  const failing: Projector = async (transaction, entries) => {
    await transaction.query('update workers set name = $1', ['entered'])
    const poisonous = entries.some(
      (entry) => entry.kind === 'planned' && entry.eventIds.includes(bad as never),
    )
    if (broken && poisonous) await transaction.query('select no_such_column')
    entered.push(...entries)
  }
  const failures: string[] = []
  const onFailed = (name: string) => void failures.push(name)
  const names = new Map([[failing, 'failing']])
  expect(
    await projectJournal(database.db, { limit: 10, projectors: [failing, keeping], names, onFailed }),
  ).toBe(2)
  expect([failures, kept.length, entered]).toEqual([['failing'], 2, []])
  expect((await readProjectionLag(database.db)).left.get('failing')).toMatchObject({ entries: 2 })
  expect((await database.db.query('select name from workers')).rows).toEqual([{ name: 'test' }])

  const left = (limit: number) =>
    projectLeft(database.db, { name: 'failing', projector: failing, limit, onFailed })
  expect(await left(10)).toEqual({ entries: 2, projected: false, split: false })
  expect(await left(1)).toEqual({ entries: 1, projected: false, split: false })
  expect(await left(1)).toEqual({ entries: 1, projected: true, split: false })
  expect(entered).toMatchObject([{ eventIds: [good] }])
  broken = false
  expect(await left(10)).toEqual({ entries: 1, projected: true, split: false })
  expect(await left(10)).toEqual({ entries: 0, projected: true, split: false })
  expect(entered).toEqual([kept[1], kept[0]])
})

test('an entry with a value that a projector fails at is split until all its other deliveries and events are projected', async () => {
  const first = await logout('alice')
  const others = await Promise.all(['bob', 'carol', 'dave', 'erin'].map((sub) => logout(sub)))
  await projected()
  const batch = [first, ...others].flatMap(({ deliveries }) => deliveries).map((one) => settledAs(one))
  await settleDeliveries(database.db, { batch, workerId, now: NOW })
  const [bad] = first.deliveries
  const plans = ['frank', 'grace', 'heidi'].map((sub) =>
    planFor(newEvent({ sub }), bindingsOf(registry), { leased: true }),
  )
  await planEvents(database.db, { batch: plans, lease: newLease(workerId), registryRevision: null, now: NOW })
  const badEvent = plans[1]?.event.id
  const entered: JournalEntry[] = []
  const failing: Projector = async (transaction, entries) => {
    const poisonous = entries.some((entry) =>
      entry.kind === 'planned'
        ? entry.eventIds.some((id) => id === badEvent)
        : entry.settled.some(({ id }) => id === bad?.id),
    )
    if (poisonous) await transaction.query('select 1 / 0')
    entered.push(...entries)
  }
  const onFailed = () => undefined
  const names = new Map([[failing, 'failing']])
  await projectJournal(database.db, { limit: 10, projectors: [failing], names, onFailed })
  for (let split = true, rounds = 0; split || rounds < 20; rounds++)
    split =
      (await projectLeft(database.db, { name: 'failing', projector: failing, limit: 1, onFailed }))?.split ===
      true
  expect(
    settledOf(entered)
      .map(({ id }) => id)
      .toSorted(),
  ).toEqual(batch.flatMap(({ id }) => (id === bad?.id ? [] : [id])).toSorted())
  const planned = entered.flatMap((entry) => (entry.kind === 'planned' ? [entry] : []))
  expect(planned.flatMap(({ eventIds }) => eventIds).toSorted()).toEqual(
    plans.flatMap(({ event }) => (event.id === badEvent ? [] : [event.id])).toSorted(),
  )
  expect(planned.flatMap(({ owed }) => owed)).toHaveLength(5)
  const { rows } = await database.db.query<{ left: number }>('select count(*) as left from journal_left')
  expect(rows).toEqual([{ left: 2 }])
})

test('a projector whose statement times out delays no other', async () => {
  await logout('alice')
  const slow: Projector = async (transaction) => {
    await transaction.query("set local statement_timeout = '50ms'")
    await transaction.query('select pg_sleep(10)')
  }
  const kept: JournalEntry[] = []
  const keeping: Projector = async (_, entries) => void kept.push(...entries)
  const names = new Map([[slow, 'slow']])
  expect(await projectJournal(database.db, { limit: 10, projectors: [slow, keeping], names })).toBe(1)
  expect(kept).toHaveLength(1)
})

test('two bookkeepers at once project every entry once', async () => {
  for (let number = 0; number < 12; number++) await logout(`user-${number}`)
  const halves = await Promise.all([projected(1), projected(1)])
  // A bookkeeper that finds the journal locked stops early, so the rest is projected here.
  const entries = [...halves.flat(), ...(await projected())]
  expect(new Set(entries.flatMap((entry) => (entry.kind === 'planned' ? entry.eventIds : []))).size).toBe(12)
  expect(entries).toHaveLength(12)
})
