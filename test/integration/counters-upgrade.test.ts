import { randomUUID } from 'node:crypto'
import {
  findReplay,
  type JournalEntry,
  migrate,
  postJournal,
  runningReplays,
  takeReplayBatch,
} from '@curfew/ledger'
import { expect, test } from 'vitest'
import { createTestDatabase } from '../support/database.ts'
import { migrateUpTo } from '../support/migrations.ts'
import { ISS, register } from './ledger-support.ts'

// Goal: deliveries whose counters had come to their end, and a replay that failed at them, go on under this release.
// Method: a schema of before with such rows, migrated, and the real statements.

const EVENT = '01a1ff00-0000-7000-8000-000000000001'
const WORN = '01a1ff00-0000-8000-8000-000000000002'
const FRESH = '01a1ff00-0000-8000-8000-000000000003'

test('counters at the end of a smallint are counted on, and the replay that they stopped ends', async () => {
  await using database = await createTestDatabase()
  const { db } = database
  await migrateUpTo(db, 'counters')
  const registry = await register(db, 1)
  const [binding] = registry.issuers.get(ISS)?.bindings ?? []
  const replay = randomUUID()
  await db.query(
    `insert into events (id, digest, iss, sub, scope, include_initiator, lane, occurred_at, accepted_at, planned_at, plan_basis)
     values ($1, '\\x00', $2, 'alice', 'subject', false, 'interactive', now(), now(), now(), 'registered')`,
    [EVENT, ISS],
  )
  await db.query(
    `insert into deliveries (id, event_id, binding_id, state, lane, planned_at, attempts, generation, replay_id, settled_at,
       dead_letter_reason)
     values ($1, $3, $4, 'dead_lettered', 'interactive', now(), 32767, 32767, $5, now(), 'refused'),
            ($2, $3, $4, 'dead_lettered', 'interactive', now(), 1, 0, null, now(), 'refused')`,
    [WORN, FRESH, EVENT, binding?.id, randomUUID()],
  )
  await db.query(
    `insert into attempts (delivery_id, number, started_at, duration_ms, outcome, status, worker_id)
     values ($1, 32767, now(), 1, 'refused', 400, $1)`,
    [WORN],
  )
  await db.query(
    `insert into journal (kind, at, event_ids, delivery_ids, binding_ids, accepted_ms, states, generations)
     values ('settled', now(), '{}', array[$1::uuid], array[$2::bigint], array[null::bigint], '{dead_lettered}', '{32767}')`,
    [WORN, binding?.id],
  )
  await db.query(
    `insert into replays (id, filter, include_lapsed, requested_by, requested_at, total, state)
     values ($1, '{}', false, 'test', now(), 2, 'running')`,
    [replay],
  )
  await migrate(db)

  const entries: JournalEntry[] = []
  await postJournal(db, { limit: 9, posters: [async (_, taken) => void entries.push(...taken)] })
  expect(entries).toMatchObject([{ settled: [{ id: WORN, generation: 32_767 }] }])
  const [job] = await runningReplays(db)
  if (job === undefined) throw new Error('the replay is running')
  for (let state = 'running'; state === 'running'; ) {
    const batch = await takeReplayBatch(db, { job, limit: 10, pauseMs: 0 })
    state = batch === 'busy' ? 'busy' : batch.state
  }
  expect(await findReplay(db, replay)).toMatchObject({ state: 'done', done: 2, refused: 0, failure: null })
  const { rows } = await db.query('select id, attempts, generation from deliveries order by id')
  expect(rows).toEqual([
    { id: WORN, attempts: 32_767, generation: 32_768 },
    { id: FRESH, attempts: 1, generation: 1 },
  ])
  await expect(db.query('update deliveries set replay_id = null where generation > 0')).rejects.toMatchObject(
    { constraint: 'replayed_by_a_job' },
  )
})
