import { randomUUID } from 'node:crypto'
import type { Issuer, Sid } from '@curfew/domain'
import {
  applySessions,
  countOrphans,
  type FoundEvent,
  findUnnotified,
  listOrphans,
  listSessionsOfSid,
  listSessionsOfSubject,
} from '@curfew/ledger'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { recording, scansOf } from '../support/explain.ts'

// Goal: a lookup is one index scan of one partition for any number of sessions, with a custom plan and with a generic one.
// Method: the real functions over a hundred thousand sessions; their statements are recorded and explained.

const ISS = 'https://idp.example'
const REQUEST = { iss: ISS, clientIds: null, after: null, limit: 51 }
let database: TestDatabase

beforeAll(async () => {
  database = await createTestDatabase()
  const { db } = database
  await db.query('insert into session_issuers (iss) values ($1)', [ISS])
  // Every subject has five sessions at relying parties, in two sessions of the IdP.
  await db.query(`
    insert into sessions (issuer, sub, sid, client_id, started_at, expires_at)
    select 1, 'user-' || n / 5, 'sid-' || n / 5 || '-' || n % 2, 'rp-' || n % 5, now(), now() + interval '8 hours'
      from generate_series(0, 99999) n`)
  await db.query(`
    insert into session_ids (issuer, sid, client_id, sub, started_at, expires_at)
    select issuer, sid, client_id, sub, started_at, expires_at from sessions`)
  await db.query('analyze sessions, session_ids')
})
afterAll(() => database.drop())

/** Tables that grow with the sessions and the logouts. The registry and the usual lifetimes have a row for each relying party. */
const GROWS = /^(events|session(s|_ids)_\d+)$/

/** Runs a lookup, and explains its last statement: its scans of tables that grow. */
async function explained(run: (db: TestDatabase['db']) => Promise<readonly unknown[]>) {
  const db = recording(database.db)
  const found = await run(db)
  const statement = db.statements.at(-1)
  if (statement === undefined) throw new Error('expected a statement')
  const scans = async (plan: 'custom' | 'generic') =>
    (await scansOf(database.db, statement, plan)).filter(({ relation }) => GROWS.test(relation))
  return {
    found: found.length,
    custom: await scans('custom'),
    generic: await scans('generic'),
  }
}

test.each([
  ['on the first page', REQUEST],
  ['on a later page', { ...REQUEST, after: { sub: 'user-7000', sid: 'sid-7000-0', clientId: 'rp-2' } }],
  ['of some clients', { ...REQUEST, clientIds: ['rp-1', 'rp-2', 'rp-3', 'rp-4'] }],
])(
  'a lookup by subject %s is one index scan of one partition, and one scan for the logout of every session',
  async (_page, request) => {
    const { found, custom, generic } = await explained((db) =>
      listSessionsOfSubject(db, { ...request, sub: 'user-7000' }),
    )
    expect(found).toBeGreaterThan(2)
    for (const scans of [custom, generic]) {
      expect(scans).toEqual([
        { how: 'Index Scan', relation: expect.stringMatching(/^sessions_\d+$/), times: 1 },
        { how: 'Index Scan', relation: 'events', times: found },
      ])
    }
  },
)

test('a lookup by sid is one index scan of one partition, and two scans for every session and its logout', async () => {
  const { found, custom, generic } = await explained((db) =>
    listSessionsOfSid(db, { ...REQUEST, sid: 'sid-7000-0' }),
  )
  expect(found).toBe(3)
  for (const scans of [custom, generic]) {
    expect(scans).toEqual([
      {
        how: expect.stringMatching(/^Index/),
        relation: expect.stringMatching(/^session_ids_\d+$/),
        times: 1,
      },
      { how: 'Index Scan', relation: expect.stringMatching(/^sessions_\d+$/), times: 3 },
      { how: 'Index Scan', relation: 'events', times: 3 },
    ])
  }
})

test.each([
  ['subject', 'user-7000', null, 5, [[true, 1]]],
  [
    'session',
    null,
    'sid-7000-0',
    3,
    [
      [true, 1],
      [true, 3],
    ],
  ],
])('a summary reads the sessions of a logout of a %s by index scans of one partition', async (...given) => {
  const [scope, sub, sid, clients, expected] = given
  const id = randomUUID()
  await database.db.query(
    `insert into events (id, given_id, iss, sub, sid, scope, include_initiator, occurred_stated, occurred_at, requested_at,
       accepted_at, planned_at, lane, plan_basis, digest)
     values ($1, $1, $2, $3, $4, $5, false, false, now(), now(), now(), now(), 'interactive', 'sessions', '')`,
    [id, ISS, sub, sid, scope],
  )
  const event = { id, clients: null, initiator: null, includeInitiator: false }
  const found = { event, deliveries: [] } as unknown as FoundEvent
  const db = recording(database.db)
  const [unnotified] = await findUnnotified(db, [found])
  expect(unnotified?.clients).toHaveLength(clients)
  const [statement] = db.statements
  if (statement === undefined) throw new Error('expected a statement')
  for (const plan of ['custom', 'generic'] as const) {
    const scans = await scansOf(database.db, statement, plan)
    const partitions = scans.filter(({ relation }) => /^session.*_\d+$/.test(relation))
    expect(partitions.map(({ how, times }) => [how.startsWith('Index'), times])).toEqual(expected)
  }
})

test('ends of sessions are looked up one by one, without a scan of a table', async () => {
  const db = recording(database.db)
  const ends = Array.from({ length: 20 }, (_, n) => ({
    ...{ iss: ISS as Issuer, sid: `sid-${n * 97}-0` as Sid, clientId: null },
  }))
  await applySessions(db, { starts: [], ends })
  const statement = db.statements.at(-1)
  if (statement === undefined) throw new Error('expected a statement')
  const again = {
    ...statement,
    values: (statement.values ?? []).map((value) =>
      Array.isArray(value) ? value.map((entry) => String(entry).replace('-0', '-1')) : value,
    ),
  }
  const scans = await scansOf(database.db, again, 'custom')
  const ofTables = scans.filter(({ relation }) => /^session(s|_ids)_\d+$/.test(relation))
  expect(ofTables.filter(({ how }) => !/^(Index|ModifyTable)/.test(how))).toEqual([])
  // Twenty lookups by sid. For each of about fifty sessions: one lookup to lock it, and one in both tables to delete it.
  const lookups = ofTables.reduce((sum, { how, times }) => sum + (how.startsWith('Index') ? times : 0), 0)
  expect(lookups).toBeLessThan(200)
})

test.each<[string, (db: TestDatabase['db']) => Promise<unknown>]>([
  [
    'listed',
    async (db) => (await listOrphans(db, { issuer: null, clientIds: null, before: null, limit: 51 })).rows,
  ],
  ['counted', (db) => countOrphans(db)],
])('orphans are %s by their index, among any number of other sessions', async (_how, run) => {
  const db = recording(database.db)
  await run(db)
  const [statement] = db.statements
  if (statement === undefined) throw new Error('expected a statement')
  for (const how of ['custom', 'generic'] as const) {
    const scans = await scansOf(database.db, statement, how)
    const ofSessions = scans.filter(({ relation }) => relation.startsWith('sessions'))
    expect(ofSessions.filter((scan) => !/^(Index|Bitmap)/.test(scan.how))).toEqual([])
  }
})
