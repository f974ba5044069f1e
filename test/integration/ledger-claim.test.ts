import type { BindingId, WorkerId } from '@curfew/domain'
import { claimDue, createDatabase, releaseDeliveries, retireWorker, type Slots } from '@curfew/ledger'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import {
  bindingsOf,
  both,
  count,
  newLease,
  newWorker,
  pile,
  planned,
  readDeliveries,
  readDelivery,
  register,
} from './ledger-support.ts'

// Goal: every due delivery goes to exactly one worker, as many as each relying party may have at once. The backlog of one relying
// party costs the others nothing.
// Method: the real statement on a real database. Where the cost matters, the test counts the rows in the plan of the statement.

let database: TestDatabase
let registry: Awaited<ReturnType<typeof register>>
let workerId: WorkerId
let ids: readonly BindingId[]

beforeAll(async () => {
  database = await createTestDatabase({ poolMax: 24 })
  registry = await register(database.db, 4)
  ids = bindingsOf(registry).map(({ id }) => id)
})
afterAll(() => database.drop())
beforeEach(async () => {
  await database.db.query('truncate events, deliveries, attempts, workers, leases, breakers')
  workerId = await newWorker(database.db)
})

const NONE: ReadonlyMap<BindingId, Slots> = new Map()
const claim = (options: Partial<Parameters<typeof claimDue>[1]> = {}) =>
  claimDue(database.db, {
    lease: newLease(workerId),
    now: new Date(),
    slots: NONE,
    otherSlots: both(1_000),
    limit: 1_000,
    ...options,
  })

describe('many workers at once', () => {
  test('take a thousand deliveries without overlap, and leave none', async () => {
    await planned(database.db, registry, { workerId, count: 250, leased: false })
    const workers = await Promise.all(Array.from({ length: 20 }, () => newWorker(database.db)))
    const taken = await Promise.all(
      workers.map(async (worker) => {
        const mine: string[] = []
        for (;;) {
          const claimed = await claim({ lease: newLease(worker), otherSlots: both(7), limit: 20 })
          if (claimed.length === 0) return mine
          mine.push(...claimed.map(({ id }) => id))
        }
      }),
    )
    expect(taken.flat()).toHaveLength(1_000)
    expect(new Set(taken.flat()).size).toBe(1_000)
    const owners = new Map((await readDeliveries(database.db)).map((row) => [String(row.id), row.leased_by]))
    for (const [index, mine] of taken.entries()) {
      for (const id of mine) expect(owners.get(id)).toBe(workers[index])
    }
  })
})

describe('a claim', () => {
  test('takes as many deliveries of a binding as it has slots, or otherSlots of an unnamed binding', async () => {
    await planned(database.db, registry, { workerId, count: 10, leased: false })
    const [a, b, c, d] = ids
    if (a === undefined || b === undefined || c === undefined || d === undefined)
      throw new Error('expected four bindings')
    const claimed = await claim({
      slots: new Map([
        [a, both(3)],
        [b, both(0)],
        [c, both(20)],
      ]),
      otherSlots: both(5),
    })
    const of = (id: BindingId) => claimed.filter(({ bindingId }) => bindingId === id).length
    expect([of(a), of(b), of(c), of(d)]).toEqual([3, 0, 10, 5])
  })

  test('takes no more than the limit', async () => {
    await planned(database.db, registry, { workerId, count: 10, leased: false })
    expect(await claim({ limit: 13 })).toHaveLength(13)
  })

  test('starts behind a given binding and wraps around, so that the limit cuts elsewhere each time', async () => {
    await planned(database.db, registry, { workerId, count: 2, leased: false })
    const [, second = 0] = ids
    const claimed = await claim({ after: second, limit: 6 })
    const of = claimed.map(({ bindingId }) => ids.indexOf(bindingId)).toSorted()
    expect(of).toEqual([0, 0, 2, 2, 3, 3])
  })

  test('takes only due deliveries, the oldest first', async () => {
    const [only] = bindingsOf(registry)
    if (only === undefined) throw new Error('expected a binding')
    const deliveries = await planned(database.db, registry, {
      workerId,
      count: 6,
      leased: false,
      bindings: [only],
    })
    const now = new Date()
    const at = (offsetMs: number) => new Date(now.getTime() + offsetMs)
    const dueIn = [-1_000, -5_000, 1, -3_000, 60_000, 0]
    for (const [index, { id }] of deliveries.entries()) {
      await database.db.query('update deliveries set due_at = $2 where id = $1', [id, at(dueIn[index] ?? 0)])
    }
    const order: string[] = []
    for (const _ of [1, 2, 3, 4, 5])
      order.push(...(await claim({ now, otherSlots: both(1) })).map(({ id }) => id))
    expect(order).toEqual([1, 3, 0, 5].map((index) => deliveries[index]?.id))
  })

  test('takes nothing for a worker that was declared dead', async () => {
    await planned(database.db, registry, { workerId, leased: false })
    await retireWorker(database.db, workerId)
    expect(await claim()).toEqual([])
    expect(await count(database.db, "deliveries where state = 'pending'")).toBe(4)
  })
})

describe('a claimed delivery', () => {
  test('has all that an attempt needs, and is leased by the clock that all workers share', async () => {
    const [delivery] = await planned(database.db, registry, { workerId, leased: false })
    if (delivery === undefined) throw new Error('expected a delivery')
    await database.db.query('update deliveries set attempts = 3, retries = 2, refusals = 1 where id = $1', [
      delivery.id,
    ])
    // The clock of this worker is an hour slow, and the delivery was due before that.
    const now = new Date(Date.now() - 3_600_000)
    await database.db.query("update deliveries set due_at = now() - interval '2 hours'")
    const claimed = (await claim({ now })).find(({ id }) => id === delivery.id)
    const { iss, givenId, sub, scope, lane, acceptedAt } = delivery.event
    expect(claimed).toEqual({
      ...delivery,
      event: { iss, givenId, sub, scope, lane, acceptedAt, traceparent: null },
      attempts: 3,
      retries: 2,
      refusals: 1,
    })
    const row = await readDelivery(database.db, delivery.id)
    expect(row).toMatchObject({ state: 'in_flight', due_at: null, leased_by: workerId })
    expect(Math.abs((row.leased_at?.getTime() ?? 0) - Date.now())).toBeLessThan(60_000)
  })

  test('costs no attempt when it is released', async () => {
    await planned(database.db, registry, { workerId, leased: false })
    const [first, second] = await claim({ limit: 2 })
    if (first === undefined || second === undefined) throw new Error('expected two deliveries')
    const stranger = await newWorker(database.db)
    await releaseDeliveries(database.db, { ids: [first.id], workerId: stranger })
    expect(await readDelivery(database.db, first.id)).toMatchObject({
      state: 'in_flight',
      leased_by: workerId,
    })
    await releaseDeliveries(database.db, { ids: [first.id], workerId })
    expect(await readDelivery(database.db, first.id)).toMatchObject({
      state: 'pending',
      due_at: expect.any(Date),
      attempts: 0,
      retries: 0,
      refusals: 0,
    })
    expect(await readDelivery(database.db, second.id)).toMatchObject({ state: 'in_flight' })
    expect(await count(database.db, 'attempts')).toBe(0)
    expect((await claim()).map(({ id }) => id)).toContain(first.id)
  })
})

interface PlanNode {
  readonly 'Node Type': string
  readonly 'Relation Name'?: string
  readonly 'Actual Rows': number
  readonly 'Actual Loops': number
  readonly 'Rows Removed by Filter'?: number
  readonly 'Shared Hit Blocks': number
  readonly 'Shared Read Blocks': number
  readonly Plans?: readonly PlanNode[]
}

describe('the rows that a claim reads', () => {
  // One connection, because the prepared statement belongs to it.
  const single = { poolMax: 1 }

  test.each(['force_custom_plan', 'force_generic_plan'])(
    'include neither history nor the backlog of a dead relying party (%s)',
    async (mode) => {
      const [dead, healthy] = ids
      if (dead === undefined || healthy === undefined) throw new Error('expected two bindings')
      await pile(database.db, dead, 100_000, 'pending')
      await pile(database.db, healthy, 50_000, 'acknowledged')
      await pile(database.db, healthy, 8, 'pending')
      await database.db.query('vacuum analyze deliveries')
      const db = createDatabase(database.url, single)
      try {
        await db.query(`set plan_cache_mode = ${mode}`)
        const now = new Date()
        // Prepares the statement. The dead relying party has no free slots.
        await claimDue(db, {
          lease: newLease(workerId),
          now,
          slots: new Map([[dead, both(0)]]),
          otherSlots: both(1),
          limit: 1_000,
        })
        const { rows } = await db.query<{ 'QUERY PLAN': readonly { readonly Plan: PlanNode }[] }>(
          `explain (analyze, buffers, format json)
           execute claim_due('${workerId}', '${now.toISOString()}', 16, 16, 1000, ${dead}, '{${dead}}', '{0}', '{0}', 2000)`,
        )
        const root = rows[0]?.['QUERY PLAN'][0]?.Plan
        if (root === undefined) throw new Error('explain returned no plan')
        const nodes = flatten(root).filter((node) => node['Relation Name'] === 'deliveries')
        expect(nodes.map((node) => node['Node Type'])).not.toContain('Seq Scan')
        const read = nodes.reduce(
          (sum, node) =>
            sum + (node['Actual Rows'] + (node['Rows Removed by Filter'] ?? 0)) * node['Actual Loops'],
          0,
        )
        // Seven deliveries of healthy relying parties are due. Each is read a few times: as due, to be locked and to be updated.
        expect(read).toBeLessThan(60)
        expect(root['Shared Hit Blocks'] + root['Shared Read Blocks']).toBeLessThan(500)
        expect(await count(db, `deliveries where state = 'in_flight' and binding_id = ${healthy}`)).toBe(8)
        expect(await count(db, `deliveries where state = 'in_flight' and binding_id = ${dead}`)).toBe(0)
      } finally {
        await db.end()
      }
    },
  )
})

function flatten(node: PlanNode): readonly PlanNode[] {
  return [node, ...(node.Plans ?? []).flatMap(flatten)]
}
