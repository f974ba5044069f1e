import type { LogoutEvent, Sid } from '@curfew/domain'
import {
  createDatabase,
  type Database,
  findSessions,
  oweLateLogouts,
  planEvents,
  projectJournal,
  projectSessions,
  settleDeliveries,
} from '@curfew/ledger'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { insertSession } from '../support/session-rows.ts'
import {
  bindingsOf,
  ISS,
  newEvent,
  newLease,
  newWorker,
  planFor,
  register,
  settledAs,
} from './ledger-support.ts'

// Goal: a query of the session index costs as many lookups as it finds sessions, however many others the index has.
// Method: reads PostgreSQL's own counters, with a table so large that a scan of the whole table would show.

const SESSIONS = 40_000
let database: TestDatabase
let issuer: number

beforeAll(async () => {
  database = await createTestDatabase({ poolMax: 2 })
  const { db } = database
  await register(db, 2)
  await insertSession(db, { iss: ISS, sub: 'alice', sid: 'a1', clientId: 'rp-0' })
  await insertSession(db, { iss: ISS, sub: 'alice', sid: 'a2', clientId: 'rp-1' })
  const expired = { expiresAt: new Date(Date.now() - 1_000) }
  await insertSession(db, { iss: ISS, sub: 'alice', sid: 'a3', clientId: 'rp-1', ...expired })
  issuer = (await db.query<{ id: number }>('select id from session_issuers')).rows[0]?.id ?? 0
  await db.query(
    `with filled as (
       insert into sessions (issuer, sub, sid, client_id, started_at, expires_at)
       select $1, 'sub-' || n, 'sid-' || n, 'rp-0', now(), now() + interval '1 day' from generate_series(1, $2::int) n
       returning *)
     insert into session_ids (issuer, sid, client_id, sub, started_at, expires_at)
     select issuer, sid, client_id, sub, started_at, expires_at from filled`,
    [issuer, SESSIONS],
  )
  await db.query('vacuum analyze sessions, session_ids')
})
afterAll(() => database.drop())

const bySid = (sid: string) => ({ ...newEvent(), scope: 'session', sid: sid as Sid }) as LogoutEvent
const ask = async (db: Database, events: readonly LogoutEvent[]) => {
  const found = await findSessions(
    db,
    events.map((event) => ({ event, issuer })),
  )
  return events.map(({ id }) =>
    found
      .get(id)
      ?.map(({ clientId, sid }) => `${clientId}:${sid}`)
      .toSorted(),
  )
}

/** Wraps a database, and records the size of its largest result. */
function watched(db: Database, largest: { rows: number }): Database {
  const withConnection: Database['withConnection'] = (work) =>
    db.withConnection((connection) => {
      const query = async (...given: Parameters<typeof connection.query>) => {
        const answer = (await connection.query(...given)) as unknown as { rows: readonly unknown[] }
        largest.rows = Math.max(largest.rows, answer.rows.length)
        return answer
      }
      return work(Object.assign(Object.create(connection), { query }))
    })
  return Object.assign(Object.create(db), { withConnection })
}

test('every event gets the sessions of its subject, or of its sid, that have not expired', async () => {
  const events = [newEvent({ sub: 'alice' }), bySid('a2'), newEvent({ sub: 'stranger' }), bySid('a3')]
  expect(await ask(database.db, events)).toEqual([['rp-0:a1', 'rp-1:a2'], ['rp-1:a2'], [], []])
})

test('a subject with too many sessions gets no answer', async () => {
  await database.db.query(
    `insert into sessions (issuer, sub, sid, client_id, started_at, expires_at)
     select $1, 'many', 'many-' || n, 'rp-0', now(), now() + interval '1 day' from generate_series(1, 10001) n`,
    [issuer],
  )
  expect(await ask(database.db, [newEvent({ sub: 'many' }), bySid('a1')])).toEqual([undefined, ['rp-0:a1']])
})

test('the states of many sessions are written a few thousand at a time, and those of too many are not written', async () => {
  const { db } = database
  const add = `
    with filled as (
      insert into sessions (issuer, sub, sid, client_id, started_at, expires_at)
      select $1, $2, $2 || n, 'rp-0', now() - interval '1 minute', now() + interval '1 day' from generate_series(1, $3::int) n
      returning *)
    insert into session_ids (issuer, sid, client_id, sub, started_at, expires_at)
    select issuer, sid, client_id, sub, started_at, expires_at from filled`
  await db.query(add, [issuer, 'several', 9_000])
  await db.query(add, [issuer, 'too-many', 10_001])
  const registry = await register(db, 1)
  const workerId = await newWorker(db)
  const at = Date.now()
  const events = ['several', 'several', 'too-many'].map((sub, n) => ({
    ...newEvent({ sub }),
    occurredAt: new Date(at + n),
    acceptedAt: new Date(at + n),
  }))
  const batch = events.map((event) => planFor(event, bindingsOf(registry)))
  await planEvents(db, {
    batch,
    lease: newLease(workerId),
    registryRevision: registry.revision,
    now: new Date(),
  })
  const largest = { rows: 0 }
  await projectJournal(watched(db, largest), { limit: 100, projectors: [projectSessions] })
  const { rows } = await db.query(
    'select sub, logout_event_id as by, count(*) as n from sessions where logout_event_id is not null group by 1, 2',
  )
  expect(rows).toEqual([{ sub: 'several', by: events[1]?.id, n: 9_000 }])
  expect(largest.rows).toBeLessThanOrEqual(5_001)
  for (const table of ['sessions', 'session_ids'])
    await db.query(`delete from ${table} where sub ~ 'several|too-many'`)
})

const PLAN_MODES = ['force_custom_plan', 'force_generic_plan']

/** Calls `work` with a database that plans statements in one way, and with a count of its lookups in the index. */
async function withLookups(
  mode: string,
  work: (db: Database, lookupsOf: (run: () => Promise<unknown>) => Promise<number>) => Promise<void>,
): Promise<void> {
  const db = createDatabase(database.url, { poolMax: 1, applicationName: 'test' })
  const scans = async () => {
    await db.query('select pg_stat_force_next_flush()')
    const { rows } = await db.query<{ whole: number; lookups: number }>(
      `select sum(seq_scan)::bigint as whole, sum(idx_scan)::bigint as lookups from pg_stat_user_tables
        where relname ~ '^(sessions|session_ids)_'`,
    )
    return rows[0] ?? { whole: Number.NaN, lookups: Number.NaN }
  }
  /** Runs `run`, which must scan no table. @returns its number of index lookups. */
  const lookupsOf = async (run: () => Promise<unknown>) => {
    const before = await scans()
    await run()
    const after = await scans()
    expect(after.whole).toBe(before.whole)
    return after.lookups - before.lookups
  }
  try {
    await db.query(`set plan_cache_mode = ${mode}`)
    await work(db, lookupsOf)
  } finally {
    await db.end()
  }
}

const key = (n: number) => ({ iss: ISS, sub: `sub-${n}`, sid: `sid-${n}`, clientId: 'rp-0' }) as never
/** Plans and settles events without the index. */
async function planAndSettle(db: Database, events: readonly LogoutEvent[]): Promise<void> {
  const registry = await register(db, 2)
  const workerId = await newWorker(db)
  const batch = events.map((event) => planFor(event, bindingsOf(registry)))
  const now = new Date()
  await planEvents(db, { batch, lease: newLease(workerId), registryRevision: registry.revision, now })
  const settled = batch.flatMap(({ deliveries }) => deliveries.map(({ delivery }) => settledAs(delivery)))
  await settleDeliveries(db, { batch: settled, workerId, now })
}

test.each(PLAN_MODES)('no lookup reads more rows than it finds (%s)', (mode) =>
  withLookups(mode, async (db, lookupsOf) => {
    const events = [newEvent({ sub: 'sub-1' }), newEvent({ sub: 'sub-2' }), bySid('sid-3')]
    // One lookup for every event, and those of the planner.
    expect(await lookupsOf(() => ask(db, events))).toBeLessThan(8)

    await planAndSettle(db, events)
    const project = () => projectJournal(db, { limit: 100, projectors: [projectSessions] })
    // One or two lookups for every event and delivery. In both tables every session is locked, changed and locked again.
    expect(await lookupsOf(project)).toBeLessThan(40)

    expect(await lookupsOf(() => oweLateLogouts(db, [key(1), key(2), key(4)]))).toBeLessThan(12)
    // The sessions of a subject without a logout are not looked up.
    const others = Array.from({ length: 100 }, (_, n) => key(100 + n))
    expect(await lookupsOf(() => oweLateLogouts(db, others))).toBeLessThan(12)
  }),
)

test.each(PLAN_MODES)('the other names of a subject are found by lookups, too (%s)', (mode) => {
  const sub = `sub-${mode.length}`
  const sid = sub.replace('sub', 'sid')
  return withLookups(mode, async (db, lookupsOf) => {
    await register(db, 2)
    await db.query("update relying_parties set subject_type = 'pairwise' where client_id = 'rp-1'")
    const linked = [sid, `${sid}-2`].map((of) =>
      insertSession(db, { iss: ISS, sub: `own-${sub}`, sid: of, clientId: 'rp-1' }),
    )
    await Promise.all(linked)
    const event = newEvent({ sub })
    let found: readonly string[] = []
    const search = async () => {
      const sessions = await findSessions(db, [{ event, issuer, pairwise: true }])
      found = (sessions.get(event.id) ?? []).map(({ clientId, sid }) => `${clientId}:${sid}`).toSorted()
    }
    // Each name and each of its sids is looked up once or twice.
    expect(await lookupsOf(search)).toBeLessThan(30)
    expect(found).toEqual([`rp-0:${sid}`, `rp-1:${sid}`, `rp-1:${sid}-2`])

    await planAndSettle(db, [event])
    const project = () => projectJournal(db, { limit: 100, projectors: [projectSessions] })
    // The statements that change sessions are never planned generically: they are not prepared by name.
    await db.query('set plan_cache_mode = force_custom_plan')
    expect(await lookupsOf(project)).toBeLessThan(80)
    await db.query(`set plan_cache_mode = ${mode}`)
    const others = Array.from({ length: 100 }, (_, n) => key(200 + n))
    expect(await lookupsOf(() => oweLateLogouts(db, others))).toBeLessThan(1_000)
    await db.query("update relying_parties set subject_type = null where client_id = 'rp-1'")
  })
})
