import type { InFlightDelivery, Settlement, WorkerId } from '@curfew/domain'
import {
  type Projector,
  planEvents,
  projectJournal,
  projectLeft,
  projectSla,
  readRegistry,
  settleDeliveries,
} from '@curfew/ledger'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import {
  BACKCHANNEL,
  bindingsOf,
  newEvent,
  newLease,
  newWorker,
  planFor,
  register,
  registerParty,
  settledAs,
  type TestChannel,
} from './ledger-support.ts'

// Goal: a logout counts by one rule in the SLA, even if its relying party gains or loses channels while it waits.
// Method: the real statements; logouts are planned before a change of the registry and settled after it.

/** A second endpoint of the same channel. */
const EU: TestChannel = { ...BACKCHANNEL, name: 'eu' }
const REVOCATION: TestChannel = { kind: 'global_revocation', fallbackFor: null }
const FALLBACK: TestChannel = { ...REVOCATION, fallbackFor: 'backchannel' }
const DEAD: Settlement = { state: 'dead_lettered', reason: 'refused' }

let database: TestDatabase
let workerId: WorkerId

beforeAll(async () => {
  database = await createTestDatabase()
})
afterAll(() => database.drop())
beforeEach(async () => {
  await database.db.query(
    `truncate events, deliveries, attempts, workers, leases, bindings, relying_parties, issuers, journal, journal_left,
       sla_rollups, sla_logouts cascade`,
  )
  await register(database.db, 0)
  workerId = await newWorker(database.db)
})

const have = (...channels: readonly TestChannel[]) => registerParty(database.db, 'desk', {}, channels)

/** Plans a logout. @returns its deliveries. */
async function logOut(): Promise<readonly InFlightDelivery[]> {
  const registry = await readRegistry(database.db)
  const planned = planFor(newEvent(), bindingsOf(registry))
  const lease = newLease(workerId)
  const now = new Date()
  await planEvents(database.db, { batch: [planned], lease, registryRevision: registry.revision, now })
  return planned.deliveries.map(({ delivery }) => delivery)
}
const settle = (deliveries: readonly InFlightDelivery[], settlement?: Settlement) =>
  settleDeliveries(database.db, {
    batch: deliveries.map((delivery) => settledAs(delivery, settlement)),
    workerId,
    now: new Date(),
  })

const PROJECTION = { projectors: [projectSla], names: new Map([[projectSla, 'sla']]) }
async function project(): Promise<void> {
  while ((await projectJournal(database.db, { limit: 1, ...PROJECTION })) !== 0);
}
/** The sums of the rollups over all bindings. */
async function counts() {
  const { rows } = await database.db.query(
    `select coalesce(sum(planned), 0)::int as planned, coalesce(sum(kept), 0)::int as kept, coalesce(sum(broken), 0)::int as broken
       from sla_rollups where span = 'day'`,
  )
  return rows[0]
}

test.each([
  ['registered after the plan is projected', true],
  ['registered before the plan is projected', false],
])('a second required channel that is %s does not change how a waiting logout counts', async (_, early) => {
  await have(BACKCHANNEL, EU)
  const waiting = [...(await logOut()), ...(await logOut())]
  if (early) await project()
  await have(BACKCHANNEL, EU, REVOCATION)
  const [later, ...others] = await logOut()
  await settle(waiting)
  await project()
  // The early logouts count at every endpoint, as when they were planned.
  expect(await counts()).toEqual({ planned: 5, kept: 4, broken: 0 })
  if (later === undefined) throw new Error('expected three deliveries')
  await settle([later])
  await project()
  // The later logout counts once: the other channel is open.
  expect(await counts()).toEqual({ planned: 5, kept: 4, broken: 0 })
  await settle(others)
  await project()
  expect(await counts()).toEqual({ planned: 5, kept: 5, broken: 0 })
})

test('a channel that is removed does not change how a waiting logout counts', async () => {
  await have(BACKCHANNEL, REVOCATION)
  const waiting = await logOut()
  expect(waiting).toHaveLength(2)
  await project()
  await have(REVOCATION)
  await settle(waiting)
  await settle(await logOut())
  await project()
  expect(await counts()).toEqual({ planned: 2, kept: 2, broken: 0 })
})

test('a logout counts once if its channel is replaced by another', async () => {
  await have(BACKCHANNEL)
  const waiting = await logOut()
  await project()
  await have(REVOCATION)
  await settle(waiting, DEAD)
  await settle(await logOut())
  await project()
  expect(await counts()).toEqual({ planned: 2, kept: 1, broken: 1 })
})

test('a fallback that is registered while a logout waits does not count it again', async () => {
  await have(BACKCHANNEL)
  const waiting = await logOut()
  await project()
  await have(BACKCHANNEL, FALLBACK)
  await settle(waiting, DEAD)
  const { rows } = await database.db.query("select from deliveries where state = 'pending'")
  expect(rows).toHaveLength(1)
  await project()
  expect(await counts()).toEqual({ planned: 1, kept: 0, broken: 1 })
})

test.each([
  ['one channel', 2, [BACKCHANNEL, EU], [BACKCHANNEL, EU, REVOCATION]],
  ['two channels', 1, [BACKCHANNEL, REVOCATION], [REVOCATION]],
])(
  'a logout at %s counts by one rule even if its plan is projected last',
  async (_, times, before, after) => {
    await have(...before)
    const waiting = await logOut()
    const failing: Projector = () => Promise.reject(new TypeError('a fault of the projector'))
    const names = new Map([[failing, 'sla']])
    await projectJournal(database.db, { limit: 9, projectors: [failing], names })
    await have(...after)
    await settle(waiting)
    await project()
    expect(await counts()).toEqual({ planned: 0, kept: times, broken: 0 })
    const onFailed = (_: string, error: unknown) => {
      throw error
    }
    await projectLeft(database.db, { name: 'sla', projector: projectSla, limit: 1, onFailed })
    expect(await counts()).toEqual({ planned: times, kept: times, broken: 0 })
  },
)

test('a round that fails after the SLA projector counts nothing, and counts once when it is repeated', async () => {
  await have(BACKCHANNEL, EU)
  const waiting = await logOut()
  await have(BACKCHANNEL, REVOCATION)
  await settle([...waiting, ...(await logOut())])
  const failing: Projector = () => Promise.reject(new Error('a fault of another projector'))
  await expect(projectJournal(database.db, { limit: 9, projectors: [projectSla, failing] })).rejects.toThrow(
    'a fault',
  )
  expect(await counts()).toEqual({ planned: 0, kept: 0, broken: 0 })
  await project()
  await project()
  expect(await counts()).toEqual({ planned: 3, kept: 3, broken: 0 })
})
