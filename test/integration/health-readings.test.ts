import type { WorkerId } from '@curfew/domain'
import {
  beatBookkeeper,
  countAlive,
  type Database,
  readDead,
  readOpenBreakers,
  readProjectionLag,
  readUnsettled,
  registerWorker,
  retireBookkeeper,
} from '@curfew/ledger'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { recording } from '../support/explain.ts'
import { costOf } from '../support/list-plans.ts'

// Goal: the readings behind the metrics are true, and one reading costs a bounded number of rows, whatever the backlog.
// Method: a ledger in which every client waits and has dead letters; the statements are recorded and explained.

const CLIENTS = 1_000
/** The clients `sick-1` to `sick-3` have 4,000 pending deliveries each, the others 20. */
const SICK = 3
const ROWS_READ_MAX = 120_000

let database: TestDatabase

const FILL = [
  `insert into issuers (name, iss, sid_supported, session_index, sla_within_ms, sla_objective, sla_window_days, defaults, revision)
   values ('main', 'https://main.example', true, 'partial', 5000, 0.99, 30, '{}', 1)`,
  `insert into relying_parties (issuer, client_id, metadata, settings, revision)
   select 'main', case when n <= ${SICK} then 'sick-' || n else 'rp-' || n end, '{}', '{}', 1 from generate_series(1, ${CLIENTS}) n`,
  `insert into bindings (relying_party_id, kind, uri, endpoint, settings, names, widens, counts)
   select id, 'backchannel', 'https://rp.example/' || id, 'main', '{}', 'either', true, 'done' from relying_parties`,
  `insert into events (id, given_id, digest, iss, sub, scope, include_initiator, occurred_stated, requested_at, lane, occurred_at,
                       accepted_at, planned_at, plan_basis)
   select md5('event ' || n)::uuid, md5('event ' || n)::uuid, 'x', 'https://main.example', 'user', 'subject', false, false, now(),
          'interactive', now(), now() - interval '1 hour' - interval '1 second' * n, now() - interval '1 second' * n, 'registered'
     from generate_series(1, 100) n`,
  // The sick clients have the oldest deliveries and the most; one in ten is in the bulk lane.
  `insert into deliveries (id, event_id, binding_id, planned_at, due_at, state, lane, attempts)
   select gen_random_uuid(), md5('event ' || case when b.id <= ${SICK} then 51 + n % 50 else 1 + n % 50 end)::uuid, b.id,
          now() - interval '1 second' * case when b.id <= ${SICK} then 51 + n % 50 else 1 + n % 50 end,
          now() + interval '1 hour', 'pending', case when n % 10 = 9 then 'bulk' else 'interactive' end, 1
     from bindings b cross join lateral generate_series(1, case when b.id <= ${SICK} then 4000 else 20 end) n`,
  `insert into deliveries (id, event_id, binding_id, planned_at, settled_at, state, lane, attempts, dead_letter_reason)
   select gen_random_uuid(), md5('event 1')::uuid, b.id, now(), now(), 'dead_lettered', 'interactive', 1, 'gone'
     from bindings b cross join lateral generate_series(1, case when b.id <= ${SICK} then 900 else 3 end) n`,
  `insert into deliveries (id, event_id, binding_id, planned_at, settled_at, state, lane, attempts, level)
   select gen_random_uuid(), md5('event 1')::uuid, b.id, now(), now(), 'acknowledged', 'interactive', 1, 'done'
     from bindings b cross join lateral generate_series(1, 50) n`,
  'analyze',
]

beforeAll(async () => {
  database = await createTestDatabase({ poolMax: 2, statementTimeoutMs: 0 })
  for (const statement of FILL) await database.db.query(statement)
}, 300_000)
afterAll(() => database.drop())

const READINGS: Readonly<Record<string, (db: Database) => Promise<unknown>>> = {
  unsettled: readUnsettled,
  dead: readDead,
  breakers: readOpenBreakers,
  'projection lag': readProjectionLag,
}

test.each(Object.entries(READINGS))(
  'reading %s scans no big table, and reads a bounded number of rows',
  async (_name, read) => {
    const db = recording(database.db)
    await read(db)
    for (const statement of db.statements) {
      for (const how of ['custom', 'generic'] as const) {
        const cost = await costOf(database.db, statement, how)
        expect(cost.wholeTables.filter((table) => /^(?:deliveries|events|journal)/.test(table))).toEqual([])
        expect(cost.rowsRead).toBeLessThan(ROWS_READ_MAX)
      }
    }
  },
)

describe('unsettled deliveries', () => {
  test('the clients with the oldest are listed with at least a thousand of theirs, and the others are summed', async () => {
    const found = await readUnsettled(database.db)
    expect(found).toHaveLength(51)
    const sick = found.filter(({ clientId }) => clientId.startsWith('sick-'))
    expect(sick.map(({ clientId }) => clientId).sort()).toEqual(['sick-1', 'sick-2', 'sick-3'])
    for (const { issuer, deliveries, oldestSeconds } of sick) {
      expect(issuer).toBe('main')
      expect(deliveries).toBeGreaterThanOrEqual(1_000)
      expect(deliveries).toBeLessThanOrEqual(4_000)
      // From the acceptance, which was an hour before the plan.
      expect(oldestSeconds).toBeGreaterThan(3_690)
      expect(oldestSeconds).toBeLessThan(3_800)
    }
    const rest = found.find(({ clientId }) => clientId === '(rest)')
    expect(rest).toMatchObject({ issuer: '(rest)', deliveries: (CLIENTS - 50) * 20 })
    expect(rest?.oldestSeconds).toBeGreaterThan(3_600)
  })

  test('a delivery in flight counts, so that the oldest stays while it is attempted', async () => {
    await using other = await createTestDatabase()
    for (const statement of FILL.slice(0, 4)) await other.db.query(statement)
    const worker = '00000000-0000-0000-0000-000000000001'
    await registerWorker(other.db, { id: worker as WorkerId, name: 'one' })
    await other.db.query(
      `insert into deliveries (id, event_id, binding_id, planned_at, state, lane, attempts, leased_by, leased_at)
       values (md5('d')::uuid, md5('event 100')::uuid, 2, now() - interval '100 s', 'in_flight', 'interactive', 1, $1, now())`,
      [worker],
    )
    await other.db.query(
      `insert into leases (worker_id, number, leased_at, delivery_ids)
       select leased_by, 1, leased_at, array[id] from deliveries`,
    )
    const [only, ...more] = await readUnsettled(other.db)
    expect(more).toEqual([])
    expect(only).toMatchObject({ issuer: 'main', clientId: 'sick-2', deliveries: 1 })
    expect(only?.oldestSeconds).toBeGreaterThan(3_690)
    await other.db.query(`update deliveries set state = 'acknowledged', settled_at = now(), level = 'done'`)
    expect(await readUnsettled(other.db)).toEqual([])
  })
})

test('the clients with the most dead letters are listed, and the others are summed', async () => {
  const found = await readDead(database.db)
  expect(found).toHaveLength(51)
  for (const clientId of ['sick-1', 'sick-2', 'sick-3'])
    expect(found).toContainEqual({ issuer: 'main', clientId, deadLetters: 900 })
  expect(found).toContainEqual({ issuer: '(rest)', clientId: '(rest)', deadLetters: (CLIENTS - 50) * 3 })
})

test('a breaker counts once for each live worker that has it open', async () => {
  await using other = await createTestDatabase()
  for (const statement of FILL.slice(0, 3)) await other.db.query(statement)
  expect(await readOpenBreakers(other.db)).toEqual([])
  await other.db.query(
    `insert into workers (id, name, seen_at)
     values (md5('1')::uuid, 'one', now()), (md5('2')::uuid, 'two', now()), (md5('3')::uuid, 'dead', now() - interval '1 minute')`,
  )
  await other.db.query('insert into breakers (binding_id, worker_id) select 1, id from workers')
  expect(await readOpenBreakers(other.db)).toEqual([
    { issuer: 'main', clientId: 'sick-1', channel: 'backchannel', workers: 2 },
  ])
})

describe('live processes', () => {
  test('a bookkeeper is alive from its first heartbeat until it stops, or is silent for 30 s', async () => {
    await using other = await createTestDatabase()
    const [one, two] = [
      '00000000-0000-0000-0000-000000000001',
      '00000000-0000-0000-0000-000000000002',
    ] as const
    expect(await countAlive(other.db)).toEqual({ workers: 0, bookkeepers: 0 })
    await beatBookkeeper(other.db, { id: one, name: 'one' })
    await beatBookkeeper(other.db, { id: two, name: 'two' })
    expect(await countAlive(other.db)).toEqual({ workers: 0, bookkeepers: 2 })
    await other.db.query(`update bookkeepers set seen_at = now() - interval '31 s' where id = $1`, [two])
    expect(await countAlive(other.db)).toEqual({ workers: 0, bookkeepers: 1 })
    await beatBookkeeper(other.db, { id: one, name: 'one' })
    const { rows } = await other.db.query<{ id: string }>('select id from bookkeepers')
    expect(rows.map(({ id }) => id)).toEqual([one])
    await retireBookkeeper(other.db, one)
    expect(await countAlive(other.db)).toEqual({ workers: 0, bookkeepers: 0 })
  })

  test('a worker counts as dead after 30 s of silence, also while no other worker deletes it', async () => {
    await using other = await createTestDatabase()
    await registerWorker(other.db, { id: '00000000-0000-0000-0000-000000000001' as WorkerId, name: 'one' })
    expect(await countAlive(other.db)).toEqual({ workers: 1, bookkeepers: 0 })
    await other.db.query(`update workers set seen_at = now() - interval '31 s'`)
    expect(await countAlive(other.db)).toEqual({ workers: 0, bookkeepers: 0 })
  })
})

test('a journal entry, and an entry at which a projector failed, age until they are projected', async () => {
  await using other = await createTestDatabase()
  const entry = `'{}', array[md5('d')::uuid], '{1}', '{null}', '{acknowledged}', '{done}', '{0}'`
  const columns = 'event_ids, delivery_ids, binding_ids, accepted_ms, states, levels, generations'
  expect(await readProjectionLag(other.db)).toEqual({
    journalSeconds: 0,
    unreceiptedSeconds: 0,
    left: new Map(),
  })
  await other.db.query(
    `insert into journal (kind, at, ${columns}) values ('planned', now() - interval '90 s', '{}', array[md5('d')::uuid], '{1}', '{null}', '{}', '{}', '{}'),
       ('settled', now() - interval '60 s', ${entry})`,
  )
  const lag = await readProjectionLag(other.db)
  expect(Math.round(lag.journalSeconds)).toBe(90)
  expect(Math.round(lag.unreceiptedSeconds)).toBe(60)
  await other.db.query('delete from journal')
  await other.db.query(
    `insert into journal_left (projector, id, kind, at, ${columns})
     values ('receipts', 1, 'settled', now() - interval '100 s', ${entry}), ('sla', 1, 'settled', now() - interval '200 s', ${entry})`,
  )
  const later = await readProjectionLag(other.db)
  expect(later.journalSeconds).toBe(0)
  expect(Math.round(later.unreceiptedSeconds)).toBe(100)
  expect(
    [...later.left]
      .map(([name, { entries, oldestSeconds }]) => [name, entries, Math.round(oldestSeconds)])
      .sort(),
  ).toEqual([
    ['receipts', 1, 100],
    ['sla', 1, 200],
  ])
})
