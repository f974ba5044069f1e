import type { InFlightDelivery, Settlement, WorkerId } from '@curfew/domain'
import {
  claimDue,
  findUnreceipted,
  planEvents,
  postJournal,
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

// Goal: an event whose delivery ends dead is not settled before its fallback is, for any reader and after any crash.
// Method: the real statements, on a relying party whose channel `admin` stands in for `backchannel`.

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
  if (owed === undefined || others.length > 0) throw new Error('one delivery')
  return owed.delivery
}
const settle = (delivery: InFlightDelivery, settlement?: Settlement) =>
  settleDeliveries(database.db, { batch: [settledAs(delivery, settlement)], workerId, now: new Date() })
const claim = () =>
  claimDue(database.db, {
    ...{ lease: newLease(workerId), now: new Date(Date.now() + 60_000), slots: new Map() },
    ...{ slotsElse: both(9), limit: 9 },
  })
/** As `channel state`. */
async function states(): Promise<readonly string[]> {
  const rows = await readDeliveries(database.db)
  return rows
    .map((row) => `${registry.bindings.get(row.binding_id)?.kind} ${row.dead_letter_reason ?? row.state}`)
    .toSorted()
}
/** The events that the journal says are settled by now. */
async function settledEvents(): ReturnType<typeof findUnreceipted> {
  const found: Awaited<ReturnType<typeof findUnreceipted>>[number][] = []
  const poster = async (...[transaction, entries]: Parameters<typeof findUnreceipted>) =>
    void found.push(...(await findUnreceipted(transaction, entries)))
  // One entry at a time: what follows an entry is committed, and not yet read.
  while ((await postJournal(database.db, { limit: 1, posters: [poster] })) !== 0);
  return found
}

test('an event has its receipt when its fallback is settled, and not before', async () => {
  const delivery = await logout()
  await settle(delivery, DEAD)
  expect(await settledEvents()).toEqual([])
  const [fallback] = await claim()
  if (fallback === undefined) throw new Error('a fallback')
  await settle(fallback)
  const [only, ...others] = await settledEvents()
  expect(others).toEqual([])
  expect(only).toMatchObject({ event: { id: delivery.eventId }, revision: 2 })
  expect(only?.targets.map(({ state }) => state).toSorted()).toEqual(['acknowledged', 'dead_lettered'])
})

test('a dead letter is not seen before its fallback, and neither stays after a failure in between', async () => {
  const { db } = database
  const delivery = await logout()
  const waiting = () =>
    db.query(
      "select from pg_stat_activity where wait_event_type = 'Lock' and query like '%insert into deliveries%'",
    )
  let settling: Promise<unknown> = Promise.resolve()
  // Its event is locked: the fallback cannot be owed yet.
  await withTransaction(db, async (transaction) => {
    await transaction.query({
      text: 'select from events where id = $1 for update',
      values: [delivery.eventId],
    })
    settling = settle(delivery, DEAD)
    await vi.waitFor(async () => expect((await waiting()).rows).toHaveLength(1), { timeout: 10_000 })
    expect(await states()).toEqual(['backchannel in_flight'])
    await db.query(
      "select pg_cancel_backend(pid) from pg_stat_activity where wait_event_type = 'Lock' and query like '%insert into deliveries%'",
    )
    await expect(settling).rejects.toThrow()
  })
  expect(await states()).toEqual(['backchannel in_flight'])
  await settle(delivery, DEAD)
  expect(await states()).toEqual(['admin pending', 'backchannel refused'])
})

test('a delivery that PostgreSQL refuses to record owes its fallback', async () => {
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

test('a delivery that would end a later session owes no fallback, for that would end it too', async () => {
  await logout({ leased: false })
  const later = { startedAt: new Date(Date.now() + 3_600_000), expiresAt: new Date(Date.now() + 7_200_000) }
  await insertSessions(database.db, ISS, [{ sub: 'alice', clientId: 'desk', sid: 'later', ...later }])
  expect(await claim()).toEqual([])
  expect(await states()).toEqual(['backchannel later_session'])
})
