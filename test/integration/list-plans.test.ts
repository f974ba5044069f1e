import {
  countOverlong,
  countWaiting,
  type Database,
  endpointsHealth,
  findEvents,
  findLastProbe,
  findReceipt,
  listApiKeys,
  listAudit,
  listConfirmations,
  listDeadLetters,
  listDeliveries,
  listIssuerLogouts,
  listIssuers,
  listOrphans,
  listOverlong,
  listReceipts,
  listRelyingParties,
  listSessionsOfSid,
  listSessionsOfSubject,
  listWebhookDeliveries,
  slaByParty,
  type WalkedPage,
  worstOverlong,
} from '@curfew/ledger'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { recording, recordingTransactions } from '../support/explain.ts'
import { costOf } from '../support/list-plans.ts'

// Goal: every list of the API reads along an index, and one page reads a bounded number of rows, with any filter and any amount
// of data. Method: every list over hundreds of thousands of deliveries; its statements are recorded and explained, with custom and generic plans.
//
// A new list needs one more entry in LISTS.

const DELIVERIES = 400_000
/** The most rows that one page may read, with any filter: ten of the largest pages, and the rows joined to its rows. */
const ROWS_READ_MAX = 12_000
/** One page, and one row more. Several parts of it may be sorted together. */
const PAGE = 51
/** Tables that grow with use, and their partitions. The tables of the registry may be scanned. */
const BIG =
  /^(?:deliveries|events|attempts|sessions|session_ids|audit|webhook_deliveries|notifications|receipts|issuer_logouts|api_keys|sla_rollups|probes|confirmations)(?:_|$)/

let database: TestDatabase

/**
 * One delivery in a hundred belongs to `small`, which has two relying parties. Dead letters, pending deliveries and old
 * deliveries lie far from the start.
 */
const FILL = [
  `insert into issuers (name, iss, sid_supported, session_index, sla_within_ms, sla_objective, sla_window_days, defaults, revision)
   select name, 'https://' || name || '.example', true, 'partial', 5000, 0.99, 30, '{}', 1 from unnest(array['main', 'small', 'many']) name`,
  `insert into relying_parties (issuer, client_id, metadata, settings, revision)
   select issuer, 'rp-' || n, '{}', '{}', 1
     from (values ('main', 10), ('small', 2), ('many', 2000)) of_issuer(issuer, count)
    cross join lateral generate_series(1, count) n`,
  `insert into bindings (relying_party_id, kind, uri, endpoint, settings, names, widens, counts)
   select id, 'backchannel', 'https://rp.example/' || id, 'main', '{}', 'either', true, 'done' from relying_parties`,
  `create temp table numbered as select n, md5('event ' || n / 10)::uuid as event, md5('random ' || n) as random
     from generate_series(0, ${DELIVERIES - 1}) n`,
  `insert into events (id, given_id, digest, iss, sub, scope, include_initiator, occurred_stated, requested_at, lane, occurred_at, accepted_at, planned_at, plan_basis)
   select event, event, '\\x00', 'https://main.example', 'user-' || min(n), 'subject', false, true, at.at, 'interactive', at.at, at.at, at.at, 'registered'
     from numbered cross join lateral (select now() - interval '30 days' * (1 - n::float8 / ${DELIVERIES}) as at) at
    where n % 10 = 0 group by event, at.at`,
  // Ids that the IdP chose, in no order of time.
  `insert into deliveries (id, event_id, binding_id, attempts, state, lane, sid, planned_at, due_at, settled_at, level,
     dead_letter_reason, replay_id, generation)
   select (left(event::text, 24) || right(random, 12))::uuid, event,
          case when n % 100 = 7 then 11 + n / 100 % 2 when n % 10 = 8 then 13 + n / 10 % 2000 else 1 + n % 10 end, 1, s.state, 'interactive', null,
          now() - interval '30 days' * (1 - n::float8 / ${DELIVERIES}),
          case s.state when 'pending' then now() end, case s.state when 'pending' then null else now() - interval '30 days' * (1 - n::float8 / ${DELIVERIES}) end,
          case s.state when 'acknowledged' then 'done' end,
          case s.state when 'dead_lettered' then case when n % 1000 = 0 then 'gone' else 'refused' end end, null, 0
     from numbered
    cross join lateral (select case when n % 20 = 0 or n % 100 = 7 and n < 500000 then 'dead_lettered' when n % 5000 = 1 then 'pending' else 'acknowledged' end as state) s`,
  `insert into session_issuers (iss) select iss from issuers order by name`,
  // Many sessions are orphaned at the same instant.
  `insert into sessions (issuer, sub, sid, client_id, started_at, expires_at, logout_event_id, orphaned_at)
   select case when n % 1000 = 0 then 3 else 1 end, 'user-' || n / 4, 'sid-' || n, 'rp-' || n % 10, now() - interval '1 day' - interval '1 ms' * n,
          now() + interval '1 day', gen_random_uuid(), case when n % 4 = 0 then now() - interval '1 hour' * (n / 50000) end
     from generate_series(1, 200000) n`,
  `insert into session_ids (issuer, sid, client_id, sub, started_at, expires_at)
   select issuer, sid, client_id, sub, started_at, expires_at from sessions`,
  `insert into session_lifetimes (relying_party_id, lifetimes, overlong_after_ms, overlong)
   select id, '{200}'::real[] || array_fill(0::real, '{79}'), 3660000, 1000 from relying_parties`,
  `insert into audit (at, credential, action, object, detail)
   select now() - interval '1 minute' * n, 'admin', 'issuer.put', '/v1/issuers/main', '{}' from generate_series(1, 200000) n`,
  `insert into webhooks (name, url, allowed_networks, enabled, sealed_secret)
   select name, 'https://hooks.example', '{}', true, 'x' from unnest(array['main', 'other']) name`,
  `insert into notifications (id, type, data) select md5('n' || n)::uuid, 'delivery.dead_lettered', '{}' from generate_series(1, 100000) n`,
  `insert into webhook_deliveries (webhook, notification_id, state, due_at, settled_at)
   select webhook, md5('n' || n)::uuid, case when n = 1 then 'failed' else 'delivered' end, null, now()
     from generate_series(1, 100000) n cross join unnest(array['main', 'other']) webhook`,
  `insert into issuer_logouts (event_id, iss, requested_by, requested_at, state, ended_at)
   select id, case when substr(id::text, 1, 2) = '00' then 'https://small.example' else iss end, 'admin', accepted_at, 'done', now() from events`,
  `insert into api_keys (id, name, hash, hint, scopes, created_by)
   select gen_random_uuid(), 'key-' || n, sha256(n::text::bytea), 'cfw_', '{admin}', 'admin' from generate_series(1, 100000) n`,
  `insert into receipts (event_id, given_id, revision, planned_at, log_index, settled_at, payload)
   select id, id, 1, planned_at, row_number() over (order by planned_at) - 1, now(), '{}' from events`,
  `insert into probes (id, issuer, client_id, kind, uri, credential, total, ended_at, report)
   select gen_random_uuid(), 'main', 'rp-' || n % 1000, 'backchannel', 'x', 'admin', 1, now(), '{}' from generate_series(1, 100000) n`,
  `insert into sla_rollups (span, binding_id, starts_at, planned, kept, broken, histogram)
   select 'hour', b.id, date_trunc('hour', now()) - interval '1 hour' * n, 10, 10, 0, ''
     from bindings b cross join generate_series(1, 100) n`,
  `insert into confirmations (event_id, relying_party_id, state, deadline_at, settled_at)
   select id, 1 + row_number() over () % 2, case row_number() over () when 1 then 'failed' else 'delivered' end, now(), now() from events`,
  'analyze',
]

beforeAll(async () => {
  database = await createTestDatabase({ poolMax: 2, statementTimeoutMs: 0 })
  await database.db.withConnection(async (connection) => {
    await connection.query("set work_mem = '256MB'; set maintenance_work_mem = '256MB'")
    for (const statement of FILL) await connection.query(statement)
  })
}, 600_000)
afterAll(() => database.drop())

const EVERY_OWNER = { issuer: null, clientIds: null }
const AT = (daysAgo: number) => new Date(Date.now() - daysAgo * 86_400_000)
const MIDDLE = '80000000-0000-0000-0000-000000000000'

const deliveries = (filter: Partial<Parameters<typeof listDeliveries>[1]>) => (db: Database) =>
  listDeliveries(db, {
    ...{ ...EVERY_OWNER, channel: null, state: null, eventId: null },
    ...{ since: null, until: null, before: null, limit: PAGE },
    ...filter,
  })
const deadLetters =
  (filter: Partial<Parameters<typeof listDeadLetters>[1]['filter']>, before: string | null = null) =>
  (db: Database) =>
    listDeadLetters(db, {
      filter: { ...EVERY_OWNER, channel: null, reason: null, from: null, to: null, ids: null, ...filter },
      before: before === null ? null : { micros: AT(15).getTime() * 1_000, id: before },
      limit: PAGE,
    })
const orphans = (filter: Partial<Parameters<typeof listOrphans>[1]>) => (db: Database) =>
  listOrphans(db, { ...EVERY_OWNER, before: null, limit: PAGE, ...filter })
const LATER_ORPHAN = {
  micros: AT(0.1).getTime() * 1_000,
  issuer: 1,
  sub: 'user-7',
  sid: 'sid-7',
  clientId: 'rp-7',
}

const overlong = (filter: Partial<Parameters<typeof listOverlong>[1]>) => (db: Database) =>
  listOverlong(db, { iss: 'https://main.example', clientIds: null, after: null, limit: PAGE, ...filter })
const LATER_OVERLONG = {
  clientId: 'rp-3',
  after: { micros: AT(1).getTime() * 1_000 - 60_000_000, sub: 'user-7', sid: 'sid-7' },
}

/** The access filter of a key, or the filter of a query. */
const OWNERS: Readonly<Record<string, { issuer: string | null; clientIds: readonly string[] | null }>> = {
  'of all owners': EVERY_OWNER,
  'of an issuer': { issuer: 'main', clientIds: null },
  'of a small issuer': { issuer: 'small', clientIds: null },
  'of an issuer of many clients': { issuer: 'many', clientIds: null },
  'of clients': { issuer: 'small', clientIds: ['rp-1', 'rp-2'] },
  'of a client': { issuer: 'main', clientIds: ['rp-3'] },
  'of a client at any issuer': { issuer: null, clientIds: ['rp-2'] },
}
const DELIVERY_FILTERS: Readonly<Record<string, Parameters<typeof deliveries>[0]>> = {
  'without another filter': {},
  'in a common state': { state: 'acknowledged' },
  'in a rare state': { state: 'pending' },
  'in a state without rows': { state: 'lapsed' },
  'of a channel': { channel: 'backchannel' },
  'of a channel without rows': { channel: 'saml' },
  'until an old time': { until: AT(29.99) },
  'until a time before the first row': { until: AT(60) },
  'since a recent time': { since: AT(0.001) },
  'between two times': { since: AT(29.99), until: AT(29.98), state: 'dead_lettered' },
  'on a later page': { before: MIDDLE, state: 'pending' },
}

const LISTS: Readonly<Record<string, (db: Database) => Promise<unknown>>> = {
  ...Object.fromEntries(
    Object.entries(OWNERS).flatMap(([owner, conditions]) => [
      ...Object.entries(DELIVERY_FILTERS).map(
        ([what, filter]) =>
          [`deliveries ${owner}, ${what}`, deliveries({ ...conditions, ...filter })] as const,
      ),
      [`dead letters ${owner}`, deadLetters(conditions)] as const,
      [`dead letters ${owner}, of a rare reason`, deadLetters({ ...conditions, reason: 'gone' })] as const,
      [
        `dead letters ${owner}, of a reason without rows`,
        deadLetters({ ...conditions, reason: 'x' }),
      ] as const,
      [
        `dead letters ${owner}, between two times`,
        deadLetters({ ...conditions, from: AT(20), to: AT(19) }),
      ] as const,
      [`dead letters ${owner}, on a later page`, deadLetters(conditions, MIDDLE)] as const,
    ]),
  ),
  'deliveries of an event': async (db) => deliveries({ eventId: await someEvent(db) })(database.db),
  'deliveries of an event, of a client': async (db) =>
    listDeliveries(db, {
      ...{ issuer: 'main', clientIds: ['rp-1'], state: 'pending', since: AT(60), until: null, before: null },
      ...{ eventId: await someEvent(database.db), channel: null, limit: PAGE },
    }),
  'an event with its deliveries': async (db) =>
    findEvents(db, { ids: [await someEvent(database.db)], deliveriesMax: 5_000 }),
  orphans: orphans({}),
  'orphans of an issuer with few': orphans({ issuer: 'small' }),
  'orphans of an issuer, of a client': orphans({ issuer: 'main', clientIds: ['rp-4'] }),
  'orphans of a client without any': orphans({ clientIds: ['rp-none'] }),
  'orphans on a later page': orphans({ before: LATER_ORPHAN }),
  'orphans of an issuer on a later page': orphans({ issuer: 'main', before: LATER_ORPHAN }),
  'overlong sessions': overlong({}),
  'overlong sessions of a client': overlong({ clientIds: ['rp-4'] }),
  'overlong sessions on a later page': overlong({ after: LATER_OVERLONG }),
  'overlong sessions of an issuer of many clients': overlong({ iss: 'https://many.example' }),
  'the clients with the most overlong sessions': (db) => worstOverlong(db, { limit: 50 }),
  'sessions of a subject': (db) =>
    listSessionsOfSubject(db, {
      ...{ iss: 'https://main.example', sub: 'user-777', clientIds: null, limit: PAGE },
      after: { sub: 'user-777', sid: 'sid-0', clientId: 'rp-0' },
    }),
  'sessions of a sid': (db) =>
    listSessionsOfSid(db, {
      ...{
        iss: 'https://main.example',
        sid: 'sid-777',
        clientIds: ['rp-1', 'rp-7'],
        after: null,
        limit: PAGE,
      },
    }),
  audit: (db) => listAudit(db, { before: null, limit: PAGE }),
  'audit on a later page': (db) => listAudit(db, { before: 1_000, limit: PAGE }),
  'issuer logouts': (db) => listIssuerLogouts(db, { iss: null, before: null, limit: PAGE }),
  'issuer logouts of an issuer with few': (db) =>
    listIssuerLogouts(db, {
      ...{ iss: 'https://small.example', limit: PAGE },
      before: { id: MIDDLE, requestedAt: AT(20) },
    }),
  'API keys': (db) => listApiKeys(db, { before: null, limit: PAGE }),
  'API keys on a later page': (db) => listApiKeys(db, { before: MIDDLE, limit: PAGE }),
  'deliveries to a webhook': (db) =>
    listWebhookDeliveries(db, { webhook: 'main', state: null, before: null, limit: PAGE }),
  'confirmations of a client': (db) =>
    listConfirmations(db, { issuer: 'main', clientId: 'rp-2', state: null, before: null, limit: PAGE }),
  'old failed confirmations of a client': (db) =>
    listConfirmations(db, { issuer: 'main', clientId: 'rp-2', state: 'failed', before: null, limit: PAGE }),
  'old failures of a webhook': (db) =>
    listWebhookDeliveries(db, { webhook: 'main', state: 'failed', before: null, limit: PAGE }),
  issuers: (db) => listIssuers(db, { after: '', limit: PAGE, only: null }),
  'relying parties': (db) =>
    listRelyingParties(db, { issuer: 'many', after: 'rp-5', limit: PAGE, only: null }),
  'relying parties within an access filter': (db) =>
    listRelyingParties(db, { issuer: 'many', after: '', limit: PAGE, only: ['rp-1', 'rp-2'] }),
  'receipts by index in the log': (db) => listReceipts(db, { from: 50_000, to: 50_050 }),
  'the receipt of an event': async (db) =>
    findReceipt(db, { eventId: await someEvent(database.db), logIndex: null }),
  'the last probe of a client': (db) => findLastProbe(db, { issuer: 'main', clientId: 'rp-5' }),
  'the health of a client': (db) => endpointsHealth(db, { issuer: 'small', clientId: 'rp-1' }),
  'the pending deliveries of a client': (db) => countWaiting(db, { issuer: 'main', clientId: 'rp-2' }),
  'the SLA of an issuer': (db) =>
    slaByParty(
      db,
      { issuer: 'small', clientIds: null },
      {
        promises: new Map([['rp-1', { withinMs: 5_000, objective: 0.99 }]]),
        range: { fromMs: AT(2).getTime(), toMs: Date.now() },
        nowMs: Date.now(),
      },
    ),
}

async function someEvent(db: Database): Promise<string> {
  const { rows } = await db.query<{ id: string }>('select id from events where id > $1 order by id limit 1', [
    MIDDLE,
  ])
  return rows[0]?.id ?? ''
}

describe('a list reads by an index, and a bounded number of rows', () => {
  test.each(Object.entries(LISTS))('%s', async (_name, list) => {
    const db = recording(database.db)
    await list(db)
    expect(db.statements.length).toBeGreaterThan(0)
    for (const statement of db.statements) {
      for (const how of ['custom', 'generic'] as const) {
        const cost = await costOf(database.db, statement, how)
        const context = `${how} plan of ${statement.text}`
        expect(
          cost.wholeTables.filter((table) => BIG.test(table)),
          context,
        ).toEqual([])
        expect(cost.rowsRead, context).toBeLessThan(ROWS_READ_MAX)
        expect(cost.rowsSorted, context).toBeLessThanOrEqual(PAGE * 100)
      }
    }
  })
})

test('a count of overlong sessions reads by an index, and a thousand sessions of each client', async () => {
  const db = recordingTransactions(database.db)
  const clients = 100
  expect(await countOverlong(db, { limit: clients, ageMs: 0, windowMs: 0 })).toMatchObject({ clients })
  const [statement, ...others] = db.statements.filter(({ text }) => text.includes('from sessions'))
  if (statement === undefined || others.length > 0) throw new Error('expected one statement on sessions')
  const cost = await costOf(database.db, statement, 'custom')
  expect(cost.wholeTables.filter((table) => BIG.test(table))).toEqual([])
  // Nine clients have 20,000 overlong sessions each. The rest is the registry.
  expect(cost.rowsRead).toBeGreaterThan(9 * 1_000)
  expect(cost.rowsRead).toBeLessThan(9 * 1_000 + 3 * 2_100)
})

describe('page by page, a list returns every row once, in order', () => {
  /** Reads a list to its end. */
  async function all<Row, Position>(
    page: (before: Position | null) => Promise<WalkedPage<Row, Position>>,
    positionOf: (row: Row) => Position,
  ): Promise<{ readonly rows: readonly Row[]; readonly pages: number }> {
    const rows: Row[] = []
    let before: Position | null = null
    for (let pages = 1; ; pages++) {
      const found: WalkedPage<Row, Position> = await page(before)
      // As in the API: the last row of a full page only proves that there is another page.
      const shown = found.rows.slice(0, PAGE - 1)
      rows.push(...shown)
      const last = shown.at(-1)
      const next: Position | null =
        found.rows.length === PAGE && last !== undefined ? positionOf(last) : found.reached
      if (next === null) return { rows, pages }
      before = next
    }
  }
  const idsWhere = async (where: string, order: string) => {
    const { rows } = await database.db.query<{ id: string }>(
      `select d.id from deliveries d join bindings b on b.id = d.binding_id
         join relying_parties p on p.id = b.relying_party_id where ${where} order by ${order}`,
    )
    return rows.map(({ id }) => id)
  }

  test.each([
    ['a rare state', { state: 'pending' }, "d.state = 'pending'"],
    [
      'of a small issuer',
      { issuer: 'small', state: 'dead_lettered' },
      "p.issuer = 'small' and d.state = 'dead_lettered'",
    ],
    [
      'of many clients',
      { issuer: 'many', until: new Date(Date.now() - 29.7 * 86_400_000) },
      `p.issuer = 'many' and d.planned_at < '${new Date(Date.now() - 29.7 * 86_400_000).toISOString()}'`,
    ],
    ['no rows', { clientIds: ['rp-7'], state: 'lapsed' }, 'false'],
  ] as const)('deliveries: %s', async (_what, filter, where) => {
    const { rows, pages } = await all(
      (before: string | null) => deliveries({ ...filter, before })(database.db),
      ({ id }) => id,
    )
    const wanted = await idsWhere(where, 'd.id desc')
    expect(rows.map(({ id }) => id)).toEqual(wanted)
    expect(pages).toBeGreaterThan(wanted.length / PAGE)
  })

  test('dead letters of a rare reason', async () => {
    const { rows } = await all(
      (before: { micros: number; id: string } | null) =>
        listDeadLetters(database.db, {
          filter: {
            issuer: 'main',
            clientIds: null,
            channel: null,
            reason: 'gone',
            from: null,
            to: null,
            ids: null,
          },
          ...{ before, limit: PAGE },
        }),
      ({ position }) => position,
    )
    expect(rows.map(({ id }) => id)).toEqual(
      await idsWhere(
        "p.issuer = 'main' and d.dead_letter_reason = 'gone'",
        'd.dead_lettered_at desc, d.id desc',
      ),
    )
    expect(rows.length).toBeGreaterThan(300)
  })

  test('orphans of a client, thousands with the same instant', async () => {
    const { rows } = await all(
      (before: Parameters<typeof listOrphans>[1]['before']) =>
        orphans({ clientIds: ['rp-4'], before })(database.db),
      ({ position }) => position,
    )
    const { rows: wanted } = await database.db.query<{ sid: string }>(
      `select sid from sessions where orphaned_at is not null and client_id = 'rp-4'
        order by orphaned_at desc, issuer desc, sub desc, sid desc`,
    )
    expect(rows.map(({ sid }) => sid)).toEqual(wanted.map(({ sid }) => sid))
    expect(rows.length).toBeGreaterThan(5_000)
  })
})
