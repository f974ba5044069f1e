import type { DeliveryId } from '@curfew/domain'
import { settleDeliveries } from '@curfew/ledger'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { newEvent, newWorker, planned, register, settledAs } from './ledger-support.ts'

// Goal: the table refuses every row that the state machine cannot produce, and settling costs only a heap-only update.
// Method: one valid row for every state with every possible fault; then PostgreSQL's own count of heap-only updates.

let database: TestDatabase
let registry: Awaited<ReturnType<typeof register>>

beforeAll(async () => {
  // One connection: a backend sees its own statistics at once, and those of other backends with a delay.
  database = await createTestDatabase({ poolMax: 1 })
  registry = await register(database.db, 3)
})
afterAll(() => database.drop())
beforeEach(async () => {
  await database.db.query('truncate events, deliveries, attempts')
})

const LEASE = { leased_by: '00000000-0000-4000-8000-000000000001', leased_at: '2026-11-21' }
const BASE = {
  id: '00000000-0000-8000-8000-000000000001',
  event_id: '00000000-0000-7000-8000-000000000001',
  binding_id: 1,
  lane: 'interactive',
  planned_at: '2026-11-21',
}
const SETTLED = { settled_at: '2026-11-21', attempts: 1, ...LEASE }
const GOOD: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  pending: { ...BASE, state: 'pending', due_at: '2026-11-21' },
  in_flight: { ...BASE, state: 'in_flight', ...LEASE },
  offered: { ...BASE, state: 'offered', due_at: '2026-11-21', fetched: true },
  acknowledged: { ...BASE, ...SETTLED, state: 'acknowledged', level: 'done' },
  superseded: { ...BASE, ...SETTLED, state: 'superseded', superseded_by: LEASE.leased_by, attempts: 0 },
  lapsed: { ...BASE, ...SETTLED, state: 'lapsed', attempts: 0 },
  dead_lettered: { ...BASE, ...SETTLED, state: 'dead_lettered', dead_letter_reason: 'refused' },
}
const TERMINAL = ['acknowledged', 'superseded', 'lapsed', 'dead_lettered']
const STATES = Object.keys(GOOD)
const without = (states: readonly string[]) => STATES.filter((state) => !states.includes(state))

/** A change, the states in which it makes a row impossible, and the constraint that refuses it. */
const IMPOSSIBLE: readonly (readonly [
  change: Readonly<Record<string, unknown>>,
  states: readonly string[],
  constraint: string,
])[] = [
  [{ due_at: null }, ['pending', 'offered'], 'due_exactly_while_waiting'],
  [{ due_at: '2026-11-21' }, without(['pending', 'offered']), 'due_exactly_while_waiting'],
  [{ fetched: true }, ['pending', 'in_flight'], 'sent_or_offered'],
  [{ fetched: false }, ['offered'], 'sent_or_offered'],
  [{ fetched: true }, ['acknowledged', 'dead_lettered'], 'fetched_without_attempts'],
  [{ attempts: 1 }, ['offered'], 'fetched_without_attempts'],
  [{ evidence: 'applied_to:7' }, STATES, 'evidence_of_fetched'],
  [{ leased_by: null }, ['in_flight'], 'leased_in_flight'],
  [{ leased_at: null }, ['in_flight'], 'leased_in_flight'],
  [{ settled_at: '2026-11-21' }, ['pending', 'in_flight', 'offered'], 'settled_exactly_when_terminal'],
  [{ settled_at: null }, TERMINAL, 'settled_exactly_when_terminal'],
  [{ level: null }, ['acknowledged'], 'level_exactly_when_acknowledged'],
  [{ level: 'done' }, without(['acknowledged']), 'level_exactly_when_acknowledged'],
  [{ level: 'maybe' }, ['acknowledged'], 'deliveries_level_check'],
  [{ dead_letter_reason: null }, ['dead_lettered'], 'reason_exactly_when_dead'],
  [{ dead_letter_reason: 'refused' }, without(['dead_lettered']), 'reason_exactly_when_dead'],
  [{ attempts: 0 }, ['acknowledged'], 'acknowledged_after_an_attempt'],
  [{ attempts: -1 }, without(['acknowledged']), 'deliveries_attempts_check'],
  [{ unsent: -1 }, STATES, 'deliveries_unsent_check'],
  [{ retries: -1 }, STATES, 'deliveries_retries_check'],
  [{ refusals: -1 }, STATES, 'deliveries_refusals_check'],
  [{ lane: 'fast' }, STATES, 'deliveries_lane_check'],
  [{ state: 'lost', superseded_by: null }, ['superseded'], 'deliveries_state_check'],
  [{ superseded_by: null }, ['superseded'], 'superseded_by_another'],
  [{ superseded_by: BASE.id }, without(['superseded']), 'superseded_by_another'],
  [{ generation: -1 }, STATES, 'deliveries_generation_check'],
  [{ replay_id: BASE.id }, STATES, 'replay_begins_a_generation'],
  [{ first_message: 'jwe' }, TERMINAL, 'no_first_message_when_settled'],
  [{ token_digest: '\\x00' }, STATES, 'deliveries_token_digest_check'],
  [{ erased_at: '2026-11-21' }, without(TERMINAL), 'settled_when_erased'],
  [{ erased_at: '2026-11-21', sid: 'sid' }, TERMINAL, 'no_names_when_erased'],
  [{ erased_at: '2026-11-21', sub: 'sub' }, TERMINAL, 'no_names_when_erased'],
  [{ erased_at: '2026-11-21', target: BASE.id }, TERMINAL, 'no_names_when_erased'],
  [{ sub: 'sub', sub_withheld: true }, STATES, 'names_no_sub_when_withheld'],
]

async function insert(table: string, row: Readonly<Record<string, unknown>>): Promise<void> {
  const names = Object.keys(row)
  await database.db.query({
    text: `insert into ${table} (${names.join(', ')}) values (${names.map((_, index) => `$${index + 1}`).join(', ')})`,
    values: Object.values(row),
  })
}

describe('the state machine in the table', () => {
  test.each(STATES)('accepts a delivery that is %s', async (state) => {
    await insert('deliveries', GOOD[state] ?? {})
  })

  const cases = IMPOSSIBLE.flatMap(([change, states, constraint]) =>
    states.map((state) => ({
      state,
      change: JSON.stringify(change),
      row: { ...GOOD[state], ...change },
      constraint,
    })),
  )
  test.each(cases)('refuses a delivery that is $state with $change', async ({ row, constraint }) => {
    await expect(insert('deliveries', row)).rejects.toMatchObject({ code: '23514', constraint })
  })

  test('has no CHECK without a case here', async () => {
    const { rows } = await database.db.query<{ conname: string }>(
      "select conname from pg_constraint where conrelid = 'deliveries'::regclass and contype = 'c'",
    )
    expect(rows.map(({ conname }) => conname).toSorted()).toEqual(
      [...new Set(IMPOSSIBLE.map(([, , constraint]) => constraint))].toSorted(),
    )
  })
})

describe('events and attempts', () => {
  const EVENT = {
    ...{ id: BASE.event_id, given_id: BASE.event_id },
    digest: Buffer.from('x'),
    iss: 'https://idp.example',
    include_initiator: false,
    occurred_stated: true,
    requested_at: '2026-11-21',
    lane: 'bulk',
    occurred_at: '2026-11-21',
    accepted_at: '2026-11-21',
    planned_at: '2026-11-21',
    plan_basis: 'registered',
  }
  test.each([
    { ...EVENT, scope: 'session', sub: 'alice' },
    { ...EVENT, scope: 'subject', sid: 'abc' },
    { ...EVENT, scope: 'everybody', sub: 'alice' },
    { ...EVENT, scope: 'subject', sub: 'alice', lane: 'fast' },
    { ...EVENT, scope: 'subject', sub: 'alice', plan_basis: 'guess' },
    { ...EVENT, scope: 'subject', sub: 'alice', digest: null },
    { ...EVENT, scope: 'subject', sub: 'alice', digest: null, erased_at: '2026-11-21' },
    { ...EVENT, scope: 'subject', erased_at: '2026-11-21' },
  ])('refuse an event without a subject or sid, or with an unknown value: %o', async (row) => {
    await expect(insert('events', row)).rejects.toMatchObject({ code: '23514' })
  })

  test('accept an erased event without a subject', async () => {
    await insert('events', { ...EVENT, scope: 'subject', digest: null, erased_at: '2026-11-21' })
  })

  const ATTEMPT = {
    delivery_id: BASE.id,
    number: 1,
    started_at: '2026-11-21',
    duration_ms: 0,
    outcome: 'refused',
    worker_id: LEASE.leased_by,
  }
  test.each([{ number: 0 }, { duration_ms: -1 }, { outcome: 'fine' }])(
    'refuse an attempt with %o',
    async (change) => {
      await expect(insert('attempts', { ...ATTEMPT, ...change })).rejects.toMatchObject({ code: '23514' })
    },
  )

  test('refuse a second row for the same attempt', async () => {
    await insert('attempts', ATTEMPT)
    await expect(insert('attempts', ATTEMPT)).rejects.toMatchObject({ code: '23505' })
  })
})

describe('settling a delivery that is acknowledged at once', () => {
  async function updates(): Promise<{ all: number; hot: number }> {
    await database.db.query('select pg_stat_force_next_flush()')
    const { rows } = await database.db.query<{ all: number; hot: number }>(
      `select pg_stat_get_tuples_updated('deliveries'::regclass) as all,
              pg_stat_get_tuples_hot_updated('deliveries'::regclass) as hot`,
    )
    return rows[0] ?? { all: 0, hot: 0 }
  }

  test('is a heap-only update: it changes no indexed column, and the page has room for it', async () => {
    const workerId = await newWorker(database.db)
    await planned(database.db, registry, { workerId, count: 500 })
    // One row in eight: the free space of a page holds that many new versions. Space for more would need pruning, which
    // depends on the transactions of others.
    const { rows } = await database.db.query<{ id: DeliveryId }>('select id from deliveries order by ctid')
    const batch = rows
      .filter((_, index) => index % 8 === 0)
      .map(({ id }) =>
        settledAs({ id, attempts: 0, event: { ...newEvent(), traceparent: null }, sessionEndsAt: null }),
      )
    const before = await updates()
    await settleDeliveries(database.db, { batch, workerId, now: new Date() })
    const after = await updates()
    expect([after.all - before.all, after.hot - before.hot]).toEqual([batch.length, batch.length])
  })
})
