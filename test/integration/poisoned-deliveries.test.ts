import { randomUUID } from 'node:crypto'
import type { DeliveryId, InFlightDelivery, WorkerId } from '@curfew/domain'
import {
  announceDeadLetters,
  createDeliveryLedger,
  createReplay,
  type DeliveryFault,
  type DeliveryLedger,
  findUnreceipted,
  listDeadLetters,
  outcomesOf,
  type Projector,
  projectIssuerLogouts,
  projectJournal,
  projectSessions,
  projectSla,
  readRegistry,
  takeReplayBatch,
} from '@curfew/ledger'
import fc from 'fast-check'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { forgetSessions, insertSession } from '../support/session-rows.ts'
import { ALL } from './dead-letters-support.ts'
import {
  bindingsOf,
  both,
  ISS,
  newEvent,
  newLease,
  newWorker,
  planFor,
  planned,
  readDelivery,
  register,
  settledAs,
} from './ledger-support.ts'

// Goal: no value in any column of a delivery makes another delivery fail.
// Method: one row gets any values that its schema allows, preferably extreme ones. It goes through every statement of the engine
// in a batch with two other rows, which must be processed as if it were not there. Other rows have a constraint that refuses
// their changes, like a constraint or trigger that an operator added.

let database: TestDatabase
let registry: Awaited<ReturnType<typeof register>>
let ledger: DeliveryLedger
let workerId: WorkerId
let faults: DeliveryFault[] = []

beforeAll(async () => {
  database = await createTestDatabase()
  registry = await register(database.db, 1)
  ledger = createDeliveryLedger(database.db, { onFault: (fault) => void faults.push(fault) })
})
afterAll(() => database.drop())
beforeEach(reset)

async function reset(): Promise<void> {
  faults = []
  await database.db.query(
    'truncate events, deliveries, attempts, workers, leases, breakers, replays, journal, journal_left, sla_rollups, notifications cascade',
  )
  workerId = await newWorker(database.db)
}

const TIMES = [
  ...[
    '-infinity',
    'infinity',
    '4713-01-01 00:00:00+00 BC',
    '0044-03-15 12:00:00+00 BC',
    '0001-01-01 00:00:00+00',
  ],
  ...['1970-01-01 00:00:00+00', '2026-11-21 05:00:00.000001+00', '9999-12-31 23:59:59.999999+00'],
  ...['10000-01-01 00:00:00+00', '275761-01-01 00:00:00+00', '294276-12-31 23:59:59.999999+00'],
]
const time = fc.constantFrom(...TIMES)
const integer = fc.oneof(
  fc.constantFrom(0, 1, 32_766, 32_767, 32_768, 2_147_483_646, 2_147_483_647),
  fc.nat({ max: 2_147_483_647 }),
)
const smallint = fc.oneof(fc.constantFrom(0, 1, 32_766, 32_767), fc.nat({ max: 32_767 }))
const anySmallint = fc.oneof(fc.constantFrom(-32_768, -1, 0, 999, 32_767))
const text = fc.oneof(
  fc.constantFrom('', ',', '\u0001', '"', '\\', '{}', 'NULL', '\u{1f600}', '\ufffd', 'x'.repeat(3_000)),
  fc.string({ unit: 'binary' }).map((value) => value.replaceAll('\0', '').toWellFormed()),
)
const nullable = <Value>(value: fc.Arbitrary<Value>) => fc.option(value, { nil: null })

/** Any value of every column, as PostgreSQL reads it, without the columns of FIXED. */
const COLUMNS = {
  attempts: integer,
  unsent: integer,
  retries: smallint,
  refusals: smallint,
  generation: integer,
  sid: nullable(text),
  sub: nullable(text),
  planned_at: time,
  due_at: time,
  leased_at: time,
  settled_at: time,
  session_ends_at: nullable(time),
  first_attempt_at: nullable(time),
  announced_at: nullable(time),
  status: nullable(anySmallint),
  dead_letter_reason: text,
  token_digest: nullable(fc.constantFrom(`\\x${'00'.repeat(32)}`, `\\x${'ff'.repeat(32)}`)),
  first_message: nullable(text),
  target: nullable(fc.uuid()),
  replay_id: fc.uuid(),
} satisfies Record<string, fc.Arbitrary<unknown>>
/** The columns for the identity, the lease and the state, and those that the state determines. */
const FIXED = new Set([
  ...['id', 'event_id', 'binding_id', 'lane', 'state', 'leased_by', 'superseded_by', 'level', 'erased_at'],
  ...['dead_lettered_at', 'sub_withheld', 'fetched', 'evidence'],
])
const EVENT_COLUMNS = { accepted_at: time, occurred_at: time, planned_at: time }

type Values = Readonly<Record<string, unknown>>
// A replay begins a generation.
const values = fc
  .record(COLUMNS, { requiredKeys: [] })
  .map((given) =>
    given.replay_id === undefined ? given : { ...given, generation: Math.max(1, given.generation ?? 1) },
  )
const eventValues = fc.record(EVENT_COLUMNS, { requiredKeys: [] })

/** Sets the columns of a delivery and its event, except those in `without`, which its state does not allow. */
async function poison(
  id: DeliveryId,
  given: Values,
  ofEvent: Values,
  without: readonly string[],
): Promise<void> {
  const set = Object.entries(given).filter(([name]) => !without.includes(name))
  await database.db.query(
    `update deliveries set ${set.map(([name], at) => `${name} = $${at + 2}`).join(', ')} where id = $1`,
    [id, ...set.map(([, value]) => value)],
  )
  for (const [name, value] of Object.entries(ofEvent))
    await database.db.query(
      `update events set ${name} = $2 where id = (select event_id from deliveries where id = $1)`,
      [id, value],
    )
}

const PENDING = ['settled_at', 'dead_letter_reason', 'announced_at']
const DEAD = ['due_at', 'announced_at', 'first_message']

async function three(leased = true): Promise<readonly [InFlightDelivery, ...InFlightDelivery[]]> {
  const [first, ...others] = await planned(database.db, registry, { workerId, count: 3, leased })
  if (first === undefined) throw new Error('expected planned deliveries')
  return [first, ...others]
}

/** The subject that a delivery logs out. */
async function subjectOf(id: DeliveryId): Promise<string> {
  const { rows } = await database.db.query<{ sub: string }>(
    'select e.sub from deliveries d join events e on e.id = d.event_id where d.id = $1',
    [id],
  )
  return rows[0]?.sub ?? ''
}

const states = async (deliveries: readonly { id: DeliveryId }[]) =>
  Promise.all(deliveries.map(async ({ id }) => (await readDelivery(database.db, id)).state))
const now = () => new Date()
const claim = () =>
  ledger.claimDue({
    lease: newLease(workerId),
    now: now(),
    slots: new Map(),
    otherSlots: both(10),
    limit: 10,
  })
/** Reads the data of receipts without writing to their log. */
const receipts: Projector = async (transaction, entries) => {
  for (const { targets, settledAt } of await findUnreceipted(transaction, entries)) {
    expect(settledAt.toISOString()).toMatch(/^\d{4}-/)
    for (const { settledMs } of targets) expect(new Date(settledMs).toISOString()).toMatch(/^\d{4}-/)
  }
}
const PROJECTORS: Readonly<Record<string, Projector>> = {
  receipts,
  sessions: projectSessions,
  'issuer logouts': projectIssuerLogouts,
  sla: projectSla,
}

/** Projects the whole journal; expects no projector to fail. */
async function project(): Promise<void> {
  const failed: unknown[] = []
  await projectJournal(database.db, {
    limit: 100,
    projectors: Object.values(PROJECTORS),
    names: new Map(Object.entries(PROJECTORS).map(([name, projector]) => [projector, name])),
    onFailed: (name, error) => failed.push([name, error]),
  })
  expect(failed).toEqual([])
}

const RUNS = { numRuns: 40 }

describe('a delivery with any values', () => {
  test('is tested in every column', async () => {
    const { rows } = await database.db.query<{ name: string }>(
      `select column_name as name from information_schema.columns where table_name = 'deliveries' and table_schema = 'public'`,
    )
    const missing = rows.map(({ name }) => name).filter((name) => !(name in COLUMNS) && !FIXED.has(name))
    expect(missing).toEqual([])
  })

  test('does not keep others from being claimed and settled with it', async () => {
    await fc.assert(
      fc.asyncProperty(values, eventValues, async (given, ofEvent) => {
        await reset()
        const [first, ...others] = await three(false)
        // It must be due to be in the batch.
        await poison(first.id, { ...given, due_at: '-infinity' }, ofEvent, PENDING)
        const claimed = await claim()
        expect(claimed.map(({ id }) => id)).toEqual(
          expect.arrayContaining([first, ...others].map(({ id }) => id)),
        )
        const lost = await ledger.settleDeliveries({
          batch: claimed.map((one) => settledAs(one)),
          workerId,
          now: now(),
        })
        expect([[...lost], faults]).toEqual([[], []])
        expect(await states([first, ...others])).toEqual(['acknowledged', 'acknowledged', 'acknowledged'])
        await project()
        expect(await outcomesOf(database.db, [first.id])).toHaveLength(1)
      }),
      RUNS,
    )
  })

  test('does not keep others from being retried, released, superseded and given up on with it', async () => {
    await fc.assert(
      fc.asyncProperty(values, eventValues, fc.boolean(), async (given, ofEvent, lapses) => {
        await reset()
        const [first, ...others] = await three()
        await poison(first.id, given, ofEvent, ['due_at', ...PENDING])
        await ledger.releaseDeliveries({ ids: [first, ...others].map(({ id }) => id), workerId })
        expect(await states([first, ...others])).toEqual(['pending', 'pending', 'pending'])
        await database.db.query(`update deliveries set due_at = '-infinity' where id = $1`, [first.id])
        const claimed = await claim()
        const again = { state: 'pending', dueAt: now(), retries: 1, refusals: 0 } as const
        const settlement = lapses ? ({ state: 'lapsed' } as const) : again
        const lost = await ledger.settleDeliveries({
          batch: claimed.map((one) => settledAs(one, one.id === first.id ? settlement : again)),
          workerId,
          now: now(),
        })
        expect([[...lost], faults]).toEqual([[], []])
        const ids = claimed.map(({ id }) => id)
        await ledger.supersedeOlder({ ids, now: now() })
        const binding = bindingsOf(registry)[0]
        if (binding === undefined) throw new Error('expected a binding')
        await ledger.bringForward({ bindingId: binding.id, now: new Date(0) })
        const dueBefore = new Map([[binding.id, new Date(Date.now() + 60_000)]])
        await ledger.giveUpUnreachable({ dueBefore, now: now(), limit: 10 })
        expect(await states(others)).toEqual(['dead_lettered', 'dead_lettered'])
        await project()
      }),
      RUNS,
    )
  })

  test('does not keep others from being announced, listed and replayed with it', async () => {
    await fc.assert(
      fc.asyncProperty(values, eventValues, fc.boolean(), async (given, ofEvent, alike) => {
        await reset()
        const deliveries = await three()
        const [first, ...others] = deliveries
        const dead = { state: 'dead_lettered', reason: 'refused' } as const
        const at = new Date(Date.now() - 1_000)
        await ledger.settleDeliveries({
          batch: deliveries.map((one) => settledAs(one, dead)),
          workerId,
          now: at,
        })
        // Dead letters with the same reason share one notification.
        await poison(first.id, given, ofEvent, alike ? [...DEAD, 'dead_letter_reason'] : DEAD)
        await project()
        const { rows: page } = await listDeadLetters(database.db, { filter: ALL, before: null, limit: 10 })
        // A list ends before infinity; Curfew itself never writes that time.
        expect(page).toHaveLength(given.settled_at === 'infinity' ? 2 : 3)
        for (const { deadLetteredAt } of page) expect(deadLetteredAt.toISOString()).toMatch(/^\d{4}-/)
        const last = page[0]
        if (last !== undefined)
          await listDeadLetters(database.db, { filter: ALL, before: last.position, limit: 10 })
        const announce = () =>
          announceDeadLetters(database.db, {
            limit: 1,
            windowMs: 60_000,
            publish: async (records) => {
              const ids = records.map(({ id }) => id)
              expect(await outcomesOf(database.db, ids)).toHaveLength(records.length)
            },
          })
        expect([await announce(), await announce(), await announce(), await announce()]).toEqual([1, 1, 1, 0])
        const announced = await database.db.query<{ count: number }>(
          "select sum((data ->> 'count')::int)::int as count from notifications",
        )
        expect(announced.rows[0]?.count).toBe(3)
        const id = randomUUID()
        const job = await createReplay(database.db, {
          id,
          filter: ALL,
          includeLapsed: true,
          requestedBy: 'test',
        })
        await takeReplayBatch(database.db, { job, limit: 10, pauseMs: 0 })
        expect(await states(others)).toEqual(['pending', 'pending'])
      }),
      RUNS,
    )
  })

  test('does not keep another logout of the same target from being planned and superseding it', async () => {
    await fc.assert(
      fc.asyncProperty(values, eventValues, async (given, ofEvent) => {
        await reset()
        const older = planFor(newEvent({ sub: 'alice' }), bindingsOf(registry), { leased: false })
        const plan = (batch: readonly (typeof older)[]) =>
          ledger.planEvents({ batch, lease: newLease(workerId), registryRevision: null, now: now() })
        await plan([older])
        const [owed] = older.deliveries
        if (owed === undefined) throw new Error('expected a delivery')
        const { target: _, ...kept } = given
        await poison(owed.delivery.id, kept, ofEvent, PENDING)
        const newer = planFor(newEvent({ sub: 'alice' }), bindingsOf(registry))
        const beside = planFor(newEvent(), bindingsOf(registry))
        const result = await plan([newer, beside])
        expect(result.ok && result.planned.size).toBe(2)
        // Only a logout that was requested later supersedes a logout.
        const superseded = !('occurred_at' in ofEvent || 'accepted_at' in ofEvent)
        if (superseded) expect((await readDelivery(database.db, owed.delivery.id)).state).toBe('superseded')
        await project()
      }),
      RUNS,
    )
  })
})

describe('if PostgreSQL refuses to', () => {
  /** Makes PostgreSQL refuse every change of a delivery to one of these states. */
  const refuse = async (id: DeliveryId, to: readonly string[]) => {
    await database.db.query(
      `alter table deliveries add constraint refuses check (id <> '${id}' or state <> all ('{${to.join(',')}}')) not valid`,
    )
  }
  afterEach(() => database.db.query('alter table deliveries drop constraint if exists refuses'))

  test('settle a delivery, it becomes a dead letter, and the others are settled', async () => {
    const [first, ...others] = await three()
    await refuse(first.id, ['acknowledged'])
    const batch = [...others, first].map((one) => settledAs(one))
    expect([...(await ledger.settleDeliveries({ batch, workerId, now: now() }))]).toEqual([])
    expect(await states(others)).toEqual(['acknowledged', 'acknowledged'])
    expect(await readDelivery(database.db, first.id)).toMatchObject({
      state: 'dead_lettered',
      dead_letter_reason: 'unrecordable',
    })
    expect(faults).toMatchObject([{ doing: 'settle', deliveryId: first.id, became: 'dead_lettered' }])
  })

  test('settle a delivery in any way, it stays leased, and the others are settled', async () => {
    const [first, ...others] = await three()
    await refuse(first.id, ['acknowledged', 'dead_lettered'])
    const batch = [...others, first].map((one) => settledAs(one))
    expect([...(await ledger.settleDeliveries({ batch, workerId, now: now() }))]).toEqual([first.id])
    expect(await states([first, ...others])).toEqual(['in_flight', 'acknowledged', 'acknowledged'])
    expect(faults).toMatchObject([{ doing: 'settle', deliveryId: first.id, became: 'left' }])
  })

  test('lease a delivery, it becomes a dead letter, and the others are claimed', async () => {
    const [first, ...others] = await three(false)
    await refuse(first.id, ['in_flight'])
    const claimed = await claim()
    expect(claimed.map(({ id }) => id).toSorted()).toEqual(others.map(({ id }) => id).toSorted())
    expect(claimed[0]?.event.iss).toBe('https://idp.example')
    expect(await states([first, ...others])).toEqual(['dead_lettered', 'in_flight', 'in_flight'])
    expect(faults).toMatchObject([{ doing: 'claim', deliveryId: first.id, became: 'dead_lettered' }])
  })

  test('lease a delivery or give up on it, the others are claimed in every round', async () => {
    const [first, ...others] = await three(false)
    await refuse(first.id, ['in_flight', 'dead_lettered'])
    expect(await claim()).toHaveLength(2)
    expect(await claim()).toHaveLength(0)
    await three(false)
    expect(await claim()).toHaveLength(3)
    expect(await states([first, ...others])).toEqual(['pending', 'in_flight', 'in_flight'])
  })

  test('narrow a delivery, it becomes a dead letter, and the others are narrowed or sent', async () => {
    const [first, ...others] = await three(false)
    const subjects = await Promise.all([first, ...others].map(({ id }) => subjectOf(id)))
    const hour = 3_600_000
    const later = { startedAt: new Date(Date.now() + hour), expiresAt: new Date(Date.now() + 2 * hour) }
    for (const sub of subjects.slice(0, 2)) {
      const session = { iss: ISS, sub, clientId: 'rp-0' }
      await insertSession(database.db, { ...session, sid: `older ${sub}` })
      await insertSession(database.db, { ...session, ...later, sid: `later ${sub}` })
    }
    await refuse(first.id, ['superseded'])
    const claimed = await claim()
    expect(claimed.map(({ id }) => id)).toEqual([others[1]?.id])
    expect(await states([first, ...others])).toEqual(['dead_lettered', 'superseded', 'in_flight'])
    expect(faults).toMatchObject([{ doing: 'narrow', deliveryId: first.id, became: 'dead_lettered' }])
    // Next comes the delivery for the older session of the second subject, and none for the first subject.
    expect((await claim()).map(({ sid }) => sid)).toEqual([`older ${subjects[1]}`])
    // The registry records that the session index knows the issuer.
    await forgetSessions(database.db)
    registry = await readRegistry(database.db)
  })

  test('release a delivery, it becomes a dead letter, and the others are released', async () => {
    const [first, ...others] = await three()
    await refuse(first.id, ['pending'])
    await ledger.releaseDeliveries({ ids: [first, ...others].map(({ id }) => id), workerId })
    expect(await states([first, ...others])).toEqual(['dead_lettered', 'pending', 'pending'])
  })

  test('mark a dead letter as announced, it stays unmarked, and the others are announced', async () => {
    const deliveries = await three()
    const [first, ...others] = deliveries
    const dead = { state: 'dead_lettered', reason: 'refused' } as const
    await ledger.settleDeliveries({
      batch: deliveries.map((one) => settledAs(one, dead)),
      workerId,
      now: now(),
    })
    await database.db.query(
      `alter table deliveries add constraint refuses check (id <> '${first.id}' or announced_at is null) not valid`,
    )
    const published: string[] = []
    const announced = await announceDeadLetters(database.db, {
      limit: 10,
      windowMs: 0,
      publish: async (records) => void published.push(...records.map(({ id }) => id)),
      onFault: (fault) => void faults.push(fault),
    })
    expect(announced).toBe(2)
    expect(published).toEqual(expect.arrayContaining(others.map(({ id }) => id)))
    expect(faults).toMatchObject([{ doing: 'announce', deliveryId: first.id, became: 'left' }])
  })
})

describe('a fault of the schema', () => {
  test('makes no delivery a dead letter', async () => {
    const [first, ...others] = await three()
    await database.db.query('alter table deliveries rename column refusals to refusals_')
    try {
      const batch = [first, ...others].map((one) => settledAs(one))
      await expect(ledger.settleDeliveries({ batch, workerId, now: now() })).rejects.toMatchObject({
        code: 'ERR_LEDGER_SCHEMA',
      })
      await expect(claim()).rejects.toMatchObject({ code: 'ERR_LEDGER_SCHEMA' })
    } finally {
      await database.db.query('alter table deliveries rename column refusals_ to refusals')
    }
    expect([await states([first, ...others]), faults]).toEqual([['in_flight', 'in_flight', 'in_flight'], []])
  })
})
