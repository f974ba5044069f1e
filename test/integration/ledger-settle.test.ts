import { type AttemptOutcome, type DeliveryId, LEVELS, type WorkerId } from '@curfew/domain'
import { claimDue, findDelivery, reclaimLeases, settleDeliveries } from '@curfew/ledger'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import {
  both,
  count,
  newLease,
  newWorker,
  planned,
  readDelivery,
  register,
  settledAs,
  silence,
} from './ledger-support.ts'

// Goal: only the worker with the lease records an outcome, and it records all of it.
// Method: settles deliveries with one worker, two workers and a dead worker, and reads the rows.

let database: TestDatabase
let registry: Awaited<ReturnType<typeof register>>
let workerId: WorkerId

beforeAll(async () => {
  database = await createTestDatabase()
  registry = await register(database.db, 1)
})
afterAll(() => database.drop())
beforeEach(async () => {
  await database.db.query('truncate events, deliveries, attempts, workers, leases, breakers')
  workerId = await newWorker(database.db)
})

const NOW = new Date('2026-11-21T05:00:00Z')
/** @returns the deliveries whose lease was lost. */
const settle = (batch: Parameters<typeof settleDeliveries>[1]['batch'], as: WorkerId = workerId) =>
  settleDeliveries(database.db, { batch, workerId: as, now: NOW })
const REFUSED: AttemptOutcome = {
  kind: 'refused',
  status: 400,
  error: 'invalid_request',
  errorDescription: 'clock, "skewed" {so}',
}
const RESET: AttemptOutcome = {
  kind: 'unavailable',
  status: null,
  failure: 'connection_reset',
  retryAfterMs: null,
  error: null,
  errorDescription: 'read ECONNRESET',
}
const BUSY: AttemptOutcome = { ...RESET, status: 503, failure: null, errorDescription: null }

async function one() {
  const [delivery] = await planned(database.db, registry, { workerId })
  if (delivery === undefined) throw new Error('expected a planned delivery')
  return delivery
}

describe('settling', () => {
  test.each(LEVELS)('an acknowledged delivery stores its level %s and the time', async (level) => {
    const delivery = await one()
    expect(await settle([settledAs(delivery, { state: 'acknowledged', level })])).toEqual(new Set())
    expect(await readDelivery(database.db, delivery.id)).toMatchObject({
      state: 'acknowledged',
      level,
      attempts: 1,
      settled_at: NOW,
      due_at: null,
      dead_letter_reason: null,
      leased_by: workerId,
    })
  })

  test('a pending delivery stores when it is due and the retries used', async () => {
    const delivery = await one()
    const dueAt = new Date('2026-11-21T05:00:30Z')
    await settle([
      settledAs(delivery, { state: 'pending', dueAt, retries: 2, refusals: 1 }, [RESET, BUSY, RESET]),
    ])
    expect(await readDelivery(database.db, delivery.id)).toMatchObject({
      state: 'pending',
      attempts: 3,
      retries: 2,
      refusals: 1,
      due_at: dueAt,
      settled_at: null,
    })
  })

  test('a dead-lettered delivery stores its reason and keeps the retries used', async () => {
    const delivery = await one()
    await settle([
      {
        ...settledAs(delivery, { state: 'dead_lettered', reason: 'refused' }, [REFUSED]),
        leased: { ...delivery, attempts: 0, retries: 4, refusals: 3 },
      },
    ])
    expect(await readDelivery(database.db, delivery.id)).toMatchObject({
      state: 'dead_lettered',
      dead_letter_reason: 'refused',
      attempts: 1,
      retries: 4,
      refusals: 3,
      settled_at: NOW,
      level: null,
    })
  })
})

describe('attempts', () => {
  test('are stored one by one, with the error texts of the relying party', async () => {
    const delivery = await one()
    const settled = settledAs(delivery, { state: 'dead_lettered', reason: 'refused' }, [
      RESET,
      BUSY,
      REFUSED,
      {
        ...{ kind: 'misconfigured', status: 302, error: null, errorDescription: null },
        location: 'https://idp.example/login?next=…',
      },
      { kind: 'undeliverable', reason: 'address_not_allowed', detail: '10.0.0.1 is not allowed' },
      { kind: 'acknowledged', level: 'begun', status: 204, note: 'unknown_user' },
    ])
    await settle([settled])
    const found = await findDelivery(database.db, delivery.id)
    // Nothing was sent to the address that is not allowed.
    expect(found?.delivery.attemptCount).toBe(5)
    const common = (index: number) => ({
      number: index + 1,
      startedAt: settled.attempts[index]?.startedAt,
      durationMs: 2,
      jti: settled.attempts[index]?.jti,
      error: null,
      errorDescription: null,
      location: null,
      note: null,
    })
    expect(found?.attempts).toEqual([
      {
        ...common(0),
        outcome: 'unavailable',
        status: null,
        errorClass: 'connection_reset',
        errorDescription: 'read ECONNRESET',
      },
      { ...common(1), outcome: 'unavailable', status: 503, errorClass: 'http_503' },
      {
        ...common(2),
        outcome: 'refused',
        status: 400,
        errorClass: 'http_400',
        error: 'invalid_request',
        errorDescription: 'clock, "skewed" {so}',
      },
      {
        ...common(3),
        outcome: 'misconfigured',
        status: 302,
        errorClass: 'http_302',
        location: 'https://idp.example/login?next=…',
      },
      {
        ...common(4),
        outcome: 'undeliverable',
        status: null,
        errorClass: 'address_not_allowed',
        errorDescription: '10.0.0.1 is not allowed',
      },
      { ...common(5), outcome: 'acknowledged', status: 204, errorClass: null, note: 'unknown_user' },
    ])
    const { rows } = await database.db.query('select distinct worker_id from attempts')
    expect(rows).toEqual([{ worker_id: workerId }])
  })

  test('are numbered continuously across claims', async () => {
    const delivery = await one()
    await settle([
      settledAs(delivery, { state: 'pending', dueAt: NOW, retries: 1, refusals: 0 }, [RESET, RESET, BUSY]),
    ])
    const [again] = await claimDue(database.db, {
      lease: newLease(workerId),
      now: new Date(),
      slots: new Map(),
      otherSlots: both(1),
      limit: 1,
    })
    if (again === undefined) throw new Error('nothing was due')
    expect(again).toMatchObject({ id: delivery.id, attempts: 3, retries: 1 })
    await settle([settledAs(again)])
    const found = await findDelivery(database.db, delivery.id)
    expect(found?.attempts.map(({ number }) => number)).toEqual([1, 2, 3, 4])
    expect(found?.delivery.attemptCount).toBe(4)
  })
})

describe('the lease is the fence', () => {
  test('settling a delivery that another worker has claimed changes and records nothing', async () => {
    const mine = await one()
    const kept = await one()
    const other = await newWorker(database.db)
    await silence(database.db, workerId, 60_000)
    await reclaimLeases(database.db, { leaseMs: 10_000 })
    const taken = await claimDue(database.db, {
      lease: newLease(other),
      now: new Date(Date.now() + 1_000),
      slots: new Map(),
      otherSlots: both(9),
      limit: 9,
    })
    expect(taken.map(({ id }) => id).toSorted()).toEqual([mine.id, kept.id].toSorted())
    expect(await settle([settledAs(mine), settledAs(kept)])).toEqual(new Set([mine.id, kept.id]))
    expect(await readDelivery(database.db, mine.id)).toMatchObject({
      state: 'in_flight',
      leased_by: other,
      attempts: 0,
    })
    expect(await count(database.db, 'attempts')).toBe(0)
    expect(await settle([settledAs(mine)], other)).toEqual(new Set())
    expect(await count(database.db, 'attempts')).toBe(1)
  })

  test('a batch with lost leases records all its other deliveries', async () => {
    const mine = await one()
    const lost = await one()
    const unknown = settledAs({ ...mine, id: '00000000-0000-8000-8000-000000000000' as DeliveryId })
    await database.db.query("update deliveries set state = 'pending', due_at = now() where id = $1", [
      lost.id,
    ])
    expect(await settle([settledAs(lost), unknown, settledAs(mine)])).toEqual(new Set([lost.id, unknown.id]))
    expect(await count(database.db, 'attempts')).toBe(1)
  })

  test('a settlement repeated after a lost answer is ignored, even if the same worker has claimed the delivery again', async () => {
    const again = settledAs(await one(), { state: 'pending', dueAt: NOW, retries: 1, refusals: 0 }, [BUSY])
    await settle([again])
    const taken = await claimDue(database.db, {
      lease: newLease(workerId),
      now: new Date(),
      slots: new Map(),
      otherSlots: both(1),
      limit: 1,
    })
    expect(taken).toMatchObject([{ id: again.id, attempts: 1 }])
    const beside = settledAs(await one())
    expect(await settle([again, beside])).toEqual(new Set([again.id]))
    expect(await readDelivery(database.db, again.id)).toMatchObject({ state: 'in_flight', attempts: 1 })
    expect(await readDelivery(database.db, beside.id)).toMatchObject({ state: 'acknowledged' })
    expect(await count(database.db, 'attempts')).toBe(2)
  })

  test('a settlement that is repeated counts once', async () => {
    const delivery = await one()
    const settled = settledAs(delivery)
    const answers = await Promise.all([settle([settled]), settle([settled]), settle([settled])])
    expect(answers.map(({ size }) => size).toSorted()).toEqual([0, 1, 1])
    expect(await readDelivery(database.db, delivery.id)).toMatchObject({ attempts: 1 })
    expect(
      await settle([settledAs(delivery, { state: 'dead_lettered', reason: 'refused' }, [REFUSED])]),
    ).toEqual(new Set([delivery.id]))
  })
})
