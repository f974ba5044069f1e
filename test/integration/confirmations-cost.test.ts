import { randomUUID } from 'node:crypto'
import type { BindingId, DeliveryId, EventId } from '@curfew/domain'
import { claimConfirmations, projectConfirmations } from '@curfew/ledger'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { recording } from '../support/explain.ts'
import { costOf } from '../support/list-plans.ts'

// Goal: the cost of a claim and of a projection does not grow with the backlog of confirmations.
// Method: a client with 100,000 due confirmations and 200 clients with waiting ones; the statements are recorded and explained.

const CLIENTS = 200
const BACKLOG = 100_000
/** Some rows for each client, and those of the batch. */
const ROWS_READ_MAX = CLIENTS * 10 + 1_000

let database: TestDatabase
beforeAll(async () => {
  database = await createTestDatabase({ statementTimeoutMs: 0 })
  for (const statement of [
    `insert into issuers (name, iss, sid_supported, session_index, sla_within_ms, sla_objective, sla_window_days, defaults, revision)
     values ('main', 'https://idp.example', true, 'partial', 5000, 0.99, 30, '{}', 1)`,
    `insert into relying_parties (issuer, client_id, metadata, settings, revision)
     select 'main', 'rp-' || n, '{}', '{"confirmation_uri": "https://rp.example"}', 1 from generate_series(1, ${CLIENTS}) n`,
    `insert into confirmations (event_id, relying_party_id, deadline_at, due_at, attempts)
     select gen_random_uuid(), 1, now() - interval '1 hour', now() - interval '1 hour', 1 from generate_series(1, ${BACKLOG})`,
    `insert into confirmations (event_id, relying_party_id, deadline_at, due_at)
     select gen_random_uuid(), 2 + n % ${CLIENTS - 1}, now() + interval '1 day', now() + interval '1 day' from generate_series(1, ${BACKLOG}) n`,
    `insert into confirmations (event_id, relying_party_id, state, deadline_at, settled_at)
     select gen_random_uuid(), 1 + n % ${CLIENTS}, 'delivered', now(), now() from generate_series(1, ${BACKLOG}) n`,
    'analyze',
  ])
    await database.db.query(statement)
}, 300_000)
afterAll(() => database.drop())

async function expectCheap(work: (db: ReturnType<typeof recording>) => Promise<unknown>): Promise<void> {
  const db = recording(database.db)
  await work(db)
  expect(db.statements.length).toBeGreaterThan(0)
  for (const statement of db.statements) {
    for (const how of ['custom', 'generic'] as const) {
      const cost = await costOf(database.db, statement, how)
      expect(cost.wholeTables, statement.text).toEqual([])
      expect(cost.rowsRead, statement.text).toBeLessThan(ROWS_READ_MAX)
      expect(cost.rowsSorted, statement.text).toBeLessThan(ROWS_READ_MAX)
    }
  }
}

test('a claim reads a few rows of each client', () =>
  expectCheap((db) => claimConfirmations(db, { busy: new Map(), most: 4, limit: 400, leaseMs: 60_000 })))

test('clients that hang do not delay the clients of another issuer, nor others of their own', async () => {
  const { db } = database
  await db.query(`insert into issuers (name, iss, sid_supported, session_index, sla_within_ms, sla_objective, sla_window_days, defaults, revision)
     values ('other', 'https://other.example', true, 'partial', 5000, 0.99, 30, '{}', 1)`)
  const { rows: added } = await db.query<{ id: number }>(
    `insert into relying_parties (issuer, client_id, metadata, settings, revision)
     select issuer, 'prompt', '{}', '{"confirmation_uri": "https://rp.example"}', 1 from unnest(array['main', 'other']) issuer
     returning id`,
  )
  const prompt = added.map(({ id }) => id)
  // Each has a backlog from an hour ago. The other clients have one message each, which became due now.
  const hanging = Array.from({ length: 100 }, (_, n) => n + 1)
  const owe = (ids: readonly number[], ago: string, count: number) =>
    db.query(
      `insert into confirmations (event_id, relying_party_id, deadline_at, due_at, attempts)
       select gen_random_uuid(), id, now(), now() - $2::interval, 1 from unnest($1::bigint[]) id, generate_series(1, $3::int)`,
      [ids, ago, count],
    )
  await owe(hanging, '1 hour', 8)
  await owe(prompt, '0', 1)
  const busy = new Map(hanging.map((id) => [id, id === 100 ? 2 : 4]))
  const claimed = await claimConfirmations(db, { busy, most: 4, limit: 2, leaseMs: 60_000 })
  expect(claimed.map(({ partyId }) => partyId).toSorted()).toEqual(prompt.toSorted())
})

test('a projection reads the rows of its batch only', () => {
  const settled = Array.from({ length: 100 }, () => ({
    ...{ id: randomUUID() as DeliveryId, bindingId: 1 as BindingId, acceptedMs: 0 },
    ...({ state: 'acknowledged', level: 'done', generation: 0 } as const),
  }))
  const eventIds = Array.from({ length: 100 }, () => randomUUID() as EventId)
  const at = new Date()
  return expectCheap((db) =>
    projectConfirmations(db, [
      { kind: 'planned', at, eventIds, owed: [] },
      { kind: 'settled', at, settled },
    ]),
  )
})
