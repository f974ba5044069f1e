import type { InFlightDelivery, Settlement, WorkerId } from '@curfew/domain'
import {
  claimDue,
  createDatabase,
  findUnreceipted,
  giveUpUnreachable,
  planEvents,
  projectJournal,
  type Registry,
  readRegistry,
  settleDeliveries,
  withTransaction,
} from '@curfew/ledger'
import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { forgetSessions, insertSessions } from '../support/session-rows.ts'
import {
  BACKCHANNEL,
  bindingsOf,
  both,
  ISS,
  newEvent,
  newLease,
  newWorker,
  planFor,
  readDeliveries,
  register,
  registerParty,
  settledAs,
} from './ledger-support.ts'

// Goal: an event with a dead delivery is settled only when the fallback of that delivery is, for any reader and after any crash.
// Method: the real statements, on a relying party whose channel `admin` is the fallback for `backchannel`.

const DEAD: Settlement = { state: 'dead_lettered', reason: 'refused' }

let database: TestDatabase
let registry: Registry
let workerId: WorkerId

beforeAll(async () => {
  database = await createTestDatabase()
})
afterAll(() => database.drop())
beforeEach(async () => {
  const { db } = database
  await db.query(
    'truncate events, deliveries, attempts, workers, leases, bindings, relying_parties, issuers, journal cascade',
  )
  await forgetSessions(db)
  await register(db, 0)
  await registerParty(db, 'desk', {}, [BACKCHANNEL, { kind: 'admin', fallbackFor: 'backchannel' }])
  registry = await readRegistry(db)
  workerId = await newWorker(db)
})

async function logout({ leased = true } = {}): Promise<InFlightDelivery> {
  const planned = planFor(newEvent({ sub: 'alice' }), bindingsOf(registry), { leased })
  const { revision: registryRevision } = registry
  const now = new Date(Date.now() - 1_000)
  await planEvents(database.db, { batch: [planned], lease: newLease(workerId), registryRevision, now })
  const [owed, ...others] = planned.deliveries
  if (owed === undefined || others.length > 0) throw new Error('expected exactly one delivery')
  return owed.delivery
}
const settle = (delivery: InFlightDelivery, settlement?: Settlement) =>
  settleDeliveries(database.db, { batch: [settledAs(delivery, settlement)], workerId, now: new Date() })
const claim = () =>
  claimDue(database.db, {
    ...{ lease: newLease(workerId), now: new Date(Date.now() + 60_000), slots: new Map() },
    ...{ otherSlots: both(9), limit: 9 },
  })
/** Every delivery as `channel state`, sorted. */
async function states(): Promise<readonly string[]> {
  const rows = await readDeliveries(database.db)
  return rows
    .map((row) => `${registry.bindings.get(row.binding_id)?.kind} ${row.dead_letter_reason ?? row.state}`)
    .toSorted()
}
/** The events that the journal reports as settled. */
async function settledEvents(): ReturnType<typeof findUnreceipted> {
  const found: Awaited<ReturnType<typeof findUnreceipted>>[number][] = []
  const projector = async (...[transaction, entries]: Parameters<typeof findUnreceipted>) =>
    void found.push(...(await findUnreceipted(transaction, entries)))
  // Reads one entry at a time: later entries are committed, but not read yet.
  while ((await projectJournal(database.db, { limit: 1, projectors: [projector] })) !== 0);
  return found
}

test('an event is ready for its receipt only when its fallback is settled', async () => {
  const delivery = await logout()
  await settle(delivery, DEAD)
  expect(await settledEvents()).toEqual([])
  const [fallback] = await claim()
  if (fallback === undefined) throw new Error('expected a claimed fallback')
  await settle(fallback)
  const [only, ...others] = await settledEvents()
  expect(others).toEqual([])
  expect(only).toMatchObject({ event: { id: delivery.eventId }, revision: 2 })
  expect(only?.targets.map(({ state }) => state).toSorted()).toEqual(['acknowledged', 'dead_lettered'])
})

test('a dead letter and its fallback are committed together, or not at all', async () => {
  const { db } = database
  const delivery = await logout()
  const waiting = `from pg_stat_activity where wait_event_type = 'Lock' and query like '%insert into deliveries%'`
  // While the event is locked, the fallback cannot be inserted.
  await withTransaction(db, async (transaction) => {
    const locked = { text: 'select from events where id = $1 for update', values: [delivery.eventId] }
    await transaction.query(locked)
    const failing = expect(settle(delivery, DEAD)).rejects.toThrow()
    await vi.waitFor(async () => expect((await db.query(`select ${waiting}`)).rows).toHaveLength(1), 10_000)
    expect(await states()).toEqual(['backchannel in_flight'])
    await db.query(`select pg_cancel_backend(pid) ${waiting}`)
    await failing
  })
  expect(await states()).toEqual(['backchannel in_flight'])
  await settle(delivery, DEAD)
  expect(await states()).toEqual(['admin pending', 'backchannel refused'])
})

test('a delivery whose settlement PostgreSQL refuses still creates its fallback', async () => {
  const { db } = database
  const delivery = await logout()
  await db.query("alter table deliveries add constraint poison check (dead_letter_reason <> 'refused')")
  try {
    await settle(delivery, DEAD)
  } finally {
    await db.query('alter table deliveries drop constraint poison')
  }
  expect(await states()).toEqual(['admin pending', 'backchannel unrecordable'])
})

test('a delivery that would end a later session creates no fallback, which would end that session too', async () => {
  await logout({ leased: false })
  const later = { startedAt: new Date(Date.now() + 3_600_000), expiresAt: new Date(Date.now() + 7_200_000) }
  await insertSessions(database.db, ISS, [{ sub: 'alice', clientId: 'desk', sid: 'later', ...later }])
  expect(await claim()).toEqual([])
  expect(await states()).toEqual(['backchannel later_session'])
})

test.each(['force_custom_plan', 'force_generic_plan'])(
  'creating fallbacks scans no large table (%s)',
  async (mode) => {
    const required = bindingsOf(registry).find(({ fallbackFor }) => fallbackFor === null)
    await database.db.query({
      text: `with planned as (
               insert into events (id, given_id, digest, iss, sub, scope, include_initiator, occurred_stated, requested_at, lane, occurred_at, accepted_at, planned_at, plan_basis)
               select id, id, '\\x00', $1, 'user-' || n, 'subject', false, true, now(), 'interactive', now(), now(), now(), 'registered'
                 from (select n, gen_random_uuid() as id from generate_series(1, 20000) n) given
               returning id)
             insert into deliveries (id, event_id, binding_id, state, lane, planned_at, due_at)
             select gen_random_uuid(), id, $2, 'pending', 'interactive', now(), now() from planned`,
      values: [ISS, required?.id],
    })
    await database.db.query('vacuum analyze events, deliveries, bindings, relying_parties')
    const db = createDatabase(database.url, { poolMax: 1, applicationName: 'test' })
    const scans = async () => {
      await db.query('select pg_stat_force_next_flush()')
      const { rows } = await db.query<{ n: number }>(
        "select sum(seq_scan)::int as n from pg_stat_user_tables where relname in ('deliveries', 'events')",
      )
      return rows[0]?.n
    }
    try {
      await db.query(`set plan_cache_mode = ${mode}`)
      const before = await scans()
      const later = new Date(Date.now() + 60_000)
      const dueBefore = new Map(bindingsOf(registry).map(({ id }) => [id, later]))
      expect(await giveUpUnreachable(db, { dueBefore, now: new Date(), limit: 500 })).toBe(500)
      expect(await scans()).toBe(before)
      const rows = await readDeliveries(database.db)
      expect(rows.filter(({ binding_id }) => binding_id !== required?.id)).toHaveLength(500)
    } finally {
      await db.end()
    }
  },
)
