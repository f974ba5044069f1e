import type { InFlightDelivery, Subject, WorkerId } from '@curfew/domain'
import {
  bringForward,
  claimDue,
  createDatabase,
  giveUpUnreachable,
  planEvents,
  settleDeliveries,
  supersedeOlder,
} from '@curfew/ledger'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import {
  bindingsOf,
  both,
  newEvent,
  newLease,
  newWorker,
  pile,
  planFor,
  readDelivery,
  register,
  settledAs,
} from './ledger-support.ts'

// Goal: of several pending deliveries for one target only the newest goes out, and a delivery that no worker could attempt for
// too long becomes a dead letter. No other delivery changes.
// Method: the real statements on a real database.

let database: TestDatabase
let registry: Awaited<ReturnType<typeof register>>
let workerId: WorkerId

beforeAll(async () => {
  database = await createTestDatabase({ poolMax: 8 })
  registry = await register(database.db, 2)
})
afterAll(() => database.drop())
beforeEach(async () => {
  await database.db.query('truncate events, deliveries, attempts, workers, leases, breakers')
  workerId = await newWorker(database.db)
})

/** Plans a logout of `sub`, or of its session `sid`. */
async function logout(
  sub: string,
  { sid, leased = false, lane }: { sid?: string; leased?: boolean; lane?: 'bulk' } = {},
): Promise<readonly InFlightDelivery[]> {
  const event = newEvent({ sub, ...(lane !== undefined && { lane }) })
  const planned = planFor(
    sid === undefined ? event : { ...event, scope: 'session', sub: sub as Subject, sid: sid as never },
    bindingsOf(registry),
    { leased },
  )
  const result = await planEvents(database.db, {
    batch: [planned],
    lease: newLease(workerId),
    registryRevision: registry.revision,
    now: new Date(),
  })
  expect(result).toMatchObject({ ok: true, planned: new Set([event.id]) })
  return planned.deliveries.map(({ delivery }) => delivery)
}
const read = (delivery: InFlightDelivery | undefined) => readDelivery(database.db, delivery?.id ?? '')

describe('a newer logout', () => {
  test('supersedes the pending deliveries for its subject at every binding, and links them, whether it is pending or in flight', async () => {
    const older = await logout('alice')
    const newer = await logout('alice')
    const newest = await logout('alice', { leased: true })
    for (const [index, delivery] of newest.entries()) {
      expect(await read(older[index])).toMatchObject({
        state: 'superseded',
        superseded_by: newer[index]?.id,
        due_at: null,
        settled_at: expect.any(Date),
        attempts: 0,
      })
      expect(await read(newer[index])).toMatchObject({ state: 'superseded', superseded_by: delivery.id })
      expect(await read(delivery)).toMatchObject({ state: 'in_flight', superseded_by: null })
    }
  })

  test('of the bulk lane supersedes bulk deliveries only, and an interactive one supersedes both', async () => {
    const [click] = await logout('alice')
    const [mass] = await logout('alice', { lane: 'bulk' })
    const [newerMass] = await logout('alice', { lane: 'bulk' })
    expect(await read(click)).toMatchObject({ state: 'pending', lane: 'interactive' })
    expect(await read(mass)).toMatchObject({ state: 'superseded', superseded_by: newerMass?.id })
    const [newerClick] = await logout('alice')
    for (const one of [click, newerMass])
      expect(await read(one)).toMatchObject({ state: 'superseded', superseded_by: newerClick?.id })
  })

  test('supersedes no delivery for another subject, for another session or of another scope', async () => {
    const waiting = await Promise.all([
      logout('alice'),
      logout('alice', { sid: 's1' }),
      logout('alice', { sid: 's2' }),
      logout('bob'),
      logout('bob', { sid: 's3' }),
    ])
    for (const delivery of waiting.flat()) expect((await read(delivery)).state).toBe('pending')
    await logout('alice', { sid: 's2' })
    const states = await Promise.all(waiting.map(async ([first]) => (await read(first)).state))
    expect(states).toEqual(['pending', 'pending', 'superseded', 'pending', 'pending'])
  })

  test('does not change deliveries that are in flight or settled', async () => {
    const running = await logout('alice', { leased: true })
    const notified = await logout('bob', { leased: true })
    await settleDeliveries(database.db, {
      batch: notified.map((one) => settledAs(one)),
      workerId,
      now: new Date(),
    })
    await logout('alice')
    await logout('bob')
    expect(await read(running[0])).toMatchObject({ state: 'in_flight', superseded_by: null })
    expect(await read(notified[0])).toMatchObject({ state: 'acknowledged', superseded_by: null })
  })

  test('does not supersede its own deliveries when its record is planned twice', async () => {
    const event = newEvent({ sub: 'alice' })
    const batch = [planFor(event, bindingsOf(registry), { leased: false })]
    const plan = () =>
      planEvents(database.db, {
        batch,
        lease: newLease(workerId),
        registryRevision: registry.revision,
        now: new Date(),
      })
    await plan()
    await plan()
    expect(await read(batch[0]?.deliveries[0]?.delivery)).toMatchObject({ state: 'pending' })
  })
})

describe('a delivery that becomes pending again while a newer one is pending', () => {
  test('is superseded by the newer one, which stays pending', async () => {
    const [older] = await logout('alice', { leased: true })
    const [newer] = await logout('alice')
    if (older === undefined || newer === undefined) throw new Error('expected two deliveries')
    const dueAt = new Date(Date.now() + 5_000)
    await settleDeliveries(database.db, {
      batch: [
        settledAs(older, { state: 'pending', dueAt, retries: 1, refusals: 0 }, [
          {
            kind: 'unavailable',
            status: 503,
            failure: null,
            retryAfterMs: null,
            error: null,
            errorDescription: null,
          },
        ]),
      ],
      workerId,
      now: new Date(),
    })
    const ids = [newer.id]
    expect(await supersedeOlder(database.db, { ids, now: new Date() })).toBe(1)
    expect(await read(older)).toMatchObject({ state: 'superseded', superseded_by: newer.id, attempts: 1 })
    expect(await read(newer)).toMatchObject({ state: 'pending' })
    expect(await supersedeOlder(database.db, { ids: [older.id, newer.id], now: new Date() })).toBe(0)
  })

  test('stays pending if it is interactive and the newer one is bulk', async () => {
    const clicks = [await logout('alice', { leased: true }), await logout('alice', { leased: true })]
    const [mass] = await logout('alice', { leased: true, lane: 'bulk' })
    const [newerMass] = await logout('alice', { leased: true, lane: 'bulk' })
    const [first, second] = clicks.map(([one]) => one)
    const batch = [first, second, mass, newerMass].flatMap((one) =>
      one === undefined
        ? []
        : [settledAs(one, { state: 'pending', dueAt: new Date(), retries: 1, refusals: 0 }, [])],
    )
    await settleDeliveries(database.db, { batch, workerId, now: new Date() })
    const ids = batch.map(({ id }) => id)
    expect(await supersedeOlder(database.db, { ids, now: new Date() })).toBe(2)
    expect(await read(first)).toMatchObject({ state: 'superseded', superseded_by: second?.id })
    expect(await read(mass)).toMatchObject({ state: 'superseded', superseded_by: newerMass?.id })
    for (const one of [second, newerMass]) expect(await read(one)).toMatchObject({ state: 'pending' })
  })

  test('is superseded by a newer interactive one if it is bulk', async () => {
    const [mass] = await logout('alice', { leased: true, lane: 'bulk' })
    const [click] = await logout('alice')
    if (mass === undefined || click === undefined) throw new Error('expected two deliveries')
    const pending = settledAs(mass, { state: 'pending', dueAt: new Date(), retries: 1, refusals: 0 }, [])
    await settleDeliveries(database.db, { batch: [pending], workerId, now: new Date() })
    expect(await supersedeOlder(database.db, { ids: [mass.id], now: new Date() })).toBe(1)
    expect(await read(mass)).toMatchObject({ state: 'superseded', superseded_by: click.id })
  })
})

test('when an endpoint is available again, its failed deliveries are due at once, and its refused deliveries are not', async () => {
  const failed = await logout('alice', { leased: true })
  const refused = await logout('bob', { leased: true })
  const fresh = await logout('carol')
  const dueAt = new Date(Date.now() + 3_600_000)
  await settleDeliveries(database.db, {
    batch: [
      ...failed.map((one) => settledAs(one, { state: 'pending', dueAt, retries: 1, refusals: 0 }, [])),
      ...refused.map((one) => settledAs(one, { state: 'pending', dueAt, retries: 0, refusals: 1 }, [])),
    ],
    workerId,
    now: new Date(),
  })
  const [first] = bindingsOf(registry)
  if (first === undefined) throw new Error('expected a binding')
  expect(await bringForward(database.db, { bindingId: first.id, now: new Date() })).toBe(1)
  const due = (deliveries: readonly InFlightDelivery[], mine: boolean) =>
    read(deliveries.find(({ bindingId }) => (bindingId === first.id) === mine))
  expect((await due(failed, true)).due_at?.getTime()).toBeLessThanOrEqual(Date.now())
  expect((await due(failed, false)).due_at).toEqual(dueAt)
  expect((await due(refused, true)).due_at).toEqual(dueAt)
  expect((await due(fresh, true)).state).toBe('pending')
})

describe('giving up on unreachable bindings', () => {
  test('dead-letters exactly the deliveries that are overdue at the named bindings, in both lanes', async () => {
    const [first, second] = bindingsOf(registry)
    if (first === undefined || second === undefined) throw new Error('expected two bindings')
    const old = await logout('alice')
    const oldBulk = await logout('bob', { lane: 'bulk' })
    const young = await logout('carol')
    const running = await logout('dave', { leased: true })
    const longAgo = new Date(Date.now() - 3_600_000)
    await database.db.query(
      "update deliveries set due_at = $1, planned_at = $1 where state = 'pending' and id <> all($2::uuid[])",
      [longAgo, young.map(({ id }) => id)],
    )
    const dueBefore = new Map([[first.id, new Date(Date.now() - 1_800_000)]])
    const now = new Date()
    expect(await giveUpUnreachable(database.db, { dueBefore, now, limit: 100 })).toBe(2)
    const ofFirst = (deliveries: readonly InFlightDelivery[]) =>
      read(deliveries.find(({ bindingId }) => bindingId === first.id))
    for (const overdue of [old, oldBulk]) {
      expect(await ofFirst(overdue)).toMatchObject({
        state: 'dead_lettered',
        dead_letter_reason: 'unreachable',
        settled_at: now,
        attempts: 0,
      })
    }
    expect((await ofFirst(young)).state).toBe('pending')
    expect((await ofFirst(running)).state).toBe('in_flight')
    expect((await read(old.find(({ bindingId }) => bindingId === second.id))).state).toBe('pending')
  })
})

test.each(['force_custom_plan', 'force_generic_plan'])(
  'planning, superseding and giving up never scan the whole table (%s)',
  async (mode) => {
    const [dead] = bindingsOf(registry)
    if (dead === undefined) throw new Error('expected a binding')
    await pile(database.db, dead.id, 50_000, 'pending')
    await pile(database.db, dead.id, 50_000, 'acknowledged')
    await database.db.query('vacuum analyze deliveries')
    const db = createDatabase(database.url, { poolMax: 1, applicationName: 'test' })
    const scans = async () => {
      await db.query('select pg_stat_force_next_flush()')
      const { rows } = await db.query<{ n: number }>(
        "select seq_scan as n from pg_stat_user_tables where relname = 'deliveries'",
      )
      return rows[0]?.n
    }
    try {
      await db.query(`set plan_cache_mode = ${mode}`)
      const before = await scans()
      for (let n = 0; n < 3; n++) {
        const planned = planFor(newEvent({ sub: 'alice' }), bindingsOf(registry), { leased: false })
        const now = new Date()
        await planEvents(db, {
          batch: [planned],
          lease: newLease(workerId),
          registryRevision: registry.revision,
          now,
        })
        await supersedeOlder(db, { ids: planned.deliveries.map(({ delivery }) => delivery.id), now })
        await giveUpUnreachable(db, { dueBefore: new Map([[dead.id, new Date(0)]]), now, limit: 10 })
      }
      expect(await scans()).toBe(before)
    } finally {
      await db.end()
    }
  },
)

test('a claim takes as many deliveries of every lane as it has slots, the interactive lane first', async () => {
  for (let n = 0; n < 5; n++) {
    await logout(`click-${n}`)
    await logout(`mass-${n}`, { lane: 'bulk' })
  }
  const [first] = bindingsOf(registry)
  if (first === undefined) throw new Error('expected a binding')
  const claim = (slots: Parameters<typeof claimDue>[1]['slots'], limit = 100) =>
    claimDue(database.db, { lease: newLease(workerId), now: new Date(), slots, otherSlots: both(0), limit })
  const lanes = (claimed: readonly InFlightDelivery[]) => claimed.map(({ event }) => event.lane).toSorted()
  expect(lanes(await claim(new Map([[first.id, { interactive: 1, bulk: 2 }]])))).toEqual([
    'bulk',
    'bulk',
    'interactive',
  ])
  expect(lanes(await claim(new Map([[first.id, both(9)]]), 4))).toEqual(Array(4).fill('interactive'))
  expect(lanes(await claim(new Map([[first.id, both(9)]])))).toEqual(['bulk', 'bulk', 'bulk'])
})
