import type { LogoutEvent } from '@curfew/domain'
import { planEvents } from '@curfew/ledger'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { recording } from '../support/explain.ts'
import { costOf } from '../support/list-plans.ts'
import { bindingsOf, ISS, newEvent, newLease, newWorker, planFor, register } from './ledger-support.ts'

// Goal: an issuer that repeats the logout of one session for ever does not slow down the plans of others.
// Method: 20,000 logouts of one session; the statement that plans a relayed one is recorded and explained.

const LOGOUTS = 20_000
/** A few rows for each logout that is considered. */
const ROWS_READ_MAX = 10_000

let database: TestDatabase
beforeAll(async () => {
  database = await createTestDatabase({ statementTimeoutMs: 0 })
}, 300_000)
afterAll(() => database.drop())

test('a relayed logout of a session with thousands of posted logouts reads the latest of them only', async () => {
  const [binding] = bindingsOf(await register(database.db, 1))
  if (binding === undefined) throw new Error('expected a binding')
  await database.db.query({
    text: `insert into events (id, given_id, digest, iss, sub, sid, scope, include_initiator, occurred_stated, requested_at, lane, occurred_at, accepted_at, planned_at, plan_basis)
           select id, id, '\\x00', $1, 'alice', 's1', 'session', false, true, now(), 'interactive', now(), now(), now(), 'registered'
             from (select gen_random_uuid() as id from generate_series(1, $2::int)) made`,
    values: [ISS, LOGOUTS],
  })
  await database.db.query({
    text: `insert into deliveries (id, event_id, binding_id, sid, state, lane, planned_at, attempts, settled_at, dead_letter_reason)
           select id, id, $1, 's1', 'dead_lettered', 'interactive', now(), 1, now(), 'refused' from events`,
    values: [binding.id],
  })
  await database.db.query('analyze')
  const relayed = { clientId: binding.clientId, token: 'token', verified: true }
  const session = { scope: 'session', sid: 's1', relayed }
  const event = { ...newEvent({ sub: 'alice' }), ...session } as LogoutEvent
  const db = recording(database.db)
  const lease = newLease(await newWorker(database.db))
  const batch = [planFor(event, [binding])]
  await planEvents(db, { batch, lease, registryRevision: null, now: new Date() })
  const [statement] = db.statements
  if (statement === undefined) throw new Error('expected a statement')
  const cost = await costOf(database.db, statement, 'custom')
  expect(cost.rowsRead).toBeLessThan(ROWS_READ_MAX)
})
