import { findUnreceipted, type JournalEntry, migrate, postJournal, settleDeliveries } from '@curfew/ledger'
import { expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { migrateUpTo } from '../support/migrations.ts'
import { ISS, newWorker, planned, register, settledAs } from './ledger-support.ts'

// Goal: what an older release planned and settled, and had not entered into the books yet, is entered by this one.
// Method: a schema of then with its rows, migrated, and the real statements.

const EVENT = '01a1ff00-0000-7000-8000-000000000001'
const DELIVERY = '01a1ff00-0000-8000-8000-000000000002'
const ACCEPTED = new Date('2026-11-21T12:00:00.123Z')
const SETTLED = new Date('2026-11-21T12:00:05.456Z')

/** Registers as the schema of then has it; statements of this release know later columns. */
async function registerThen(db: TestDatabase['db']): Promise<{ id: number }> {
  const { rows } = await db.query<{ id: number }>(
    `with issuer as (
       insert into issuers (name, iss, sla_within_ms, sla_objective, defaults, revision) values ('main', $1, 5000, 0.999, '{}', 1)
       returning name
     ),
     party as (
       insert into relying_parties (issuer, client_id, metadata, settings, session_required, algorithm, revision)
       select name, 'shop', '{}', '{}', false, 'ES256', 1 from issuer
       returning id
     )
     insert into bindings (relying_party_id, kind, endpoint, uri) select id, 'backchannel', 'main', 'https://rp.example/' from party
     returning id`,
    [ISS],
  )
  const [binding] = rows
  if (binding === undefined) throw new Error('a relying party is registered')
  return binding
}

test('a journal that was not entered, and its deliveries', async () => {
  await using database = await createTestDatabase()
  const { db } = database
  await migrateUpTo(db, 'books')
  const binding = await registerThen(db)
  await db.query(
    `insert into events (id, digest, iss, sub, scope, include_initiator, lane, occurred_at, accepted_at, planned_at, plan_basis)
     values ($1, '\\x00', $2, 'alice', 'subject', false, 'interactive', $3, $3, $3, 'registered')`,
    [EVENT, ISS, ACCEPTED],
  )
  await db.query(
    `insert into deliveries (id, event_id, binding_id, state, lane, planned_at, attempts, settled_at, level)
     values ($1, $2, $3, 'acknowledged', 'interactive', $4, 2, $5, 'done')`,
    [DELIVERY, EVENT, binding.id, ACCEPTED, SETTLED],
  )
  await db.query(
    `insert into attempts (delivery_id, number, started_at, duration_ms, outcome, status, worker_id, token_digest)
     values ($1, 1, $2, 1, 'unavailable', 503, $1, sha256('first')), ($1, 2, $3, 1, 'acknowledged', 200, $1, sha256('last'))`,
    [DELIVERY, ACCEPTED, SETTLED],
  )
  await db.query(
    `insert into journal (kind, at, event_ids, delivery_ids, states, generations)
     values ('planned', $1, array[$2::uuid], array[$3::uuid], '{}', '{}'), ('settled', $4, '{}', array[$3::uuid, $2::uuid], '{acknowledged,lapsed}', '{0,0}')`,
    [ACCEPTED, EVENT, DELIVERY, SETTLED],
  )
  await migrate(db)

  const entries: JournalEntry[] = []
  await postJournal(db, { limit: 9, posters: [async (_, taken) => void entries.push(...taken)] })
  const known = { id: DELIVERY, bindingId: binding.id, acceptedMs: ACCEPTED.getTime() }
  const gone = { id: EVENT, bindingId: 0, acceptedMs: null }
  expect(entries).toMatchObject([
    { kind: 'planned', eventIds: [EVENT], owed: [known] },
    {
      kind: 'settled',
      settled: [
        { ...known, state: 'acknowledged' },
        { ...gone, state: 'lapsed' },
      ],
    },
  ])
  const [found] = await findUnreceipted(db, entries)
  expect(found?.targets).toMatchObject([
    { attempts: 2, firstAttemptMs: ACCEPTED.getTime(), settledMs: SETTLED.getTime(), status: 200 },
  ])
  const { rows } = await db.query("select token_digest = sha256('last') as same from deliveries")
  expect(rows).toEqual([{ same: true }])
})

test('when a delivery was attempted first is not known any more where that attempt was dropped before', async () => {
  await using database = await createTestDatabase()
  const { db } = database
  const workerId = await newWorker(db)
  const [delivery] = await planned(db, await register(db, 1), { workerId })
  if (delivery === undefined) throw new Error('one delivery')
  // As the migration leaves it.
  await db.query('update deliveries set attempts = 3')
  const batch = [settledAs({ ...delivery, attempts: 3 })]
  expect(await settleDeliveries(db, { batch, workerId, now: SETTLED })).toEqual(new Set())
  const { rows } = await db.query('select attempts, status, first_attempt_at from deliveries')
  expect(rows).toEqual([{ attempts: 4, status: 200, first_attempt_at: null }])
})
