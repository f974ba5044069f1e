import type { WorkerId } from '@curfew/domain'
import { claimDue, narrowClaimed, planEvents, readRegistry } from '@curfew/ledger'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { forgetSessions, insertSessions } from '../support/session-rows.ts'
import {
  bindingsOf,
  both,
  ISS,
  newEvent,
  newLease,
  newWorker,
  planFor,
  readDeliveries,
  register,
  registerParty,
} from './ledger-support.ts'

// Goal: a logout of a subject with more sessions than one logout may name is never done for sessions that were not named.
// Method: the real statements, with a maximum of three sessions.

const MAX = 3

let database: TestDatabase
let worker: WorkerId

beforeAll(async () => {
  database = await createTestDatabase()
})
afterAll(() => database.drop())
beforeEach(async () => {
  const { db } = database
  await db.query(
    'truncate events, deliveries, attempts, workers, leases, bindings, relying_parties, issuers, journal cascade',
  )
  await forgetSessions(db)
  await register(db, 0)
  worker = await newWorker(db)
})

const hence = (ms: number) => new Date(Date.now() + ms)

/** Claims a logout of the subject at a client with `held` sessions. @returns the state or dead letter reason of every delivery. */
async function narrowed(
  held: { older: number; later: number },
  settings: Parameters<typeof registerParty>[2] = {},
): Promise<readonly string[]> {
  const { db } = database
  await registerParty(db, 'mail', settings)
  const registry = await readRegistry(db)
  const batch = [planFor(newEvent({ sub: 'alice' }), bindingsOf(registry), { leased: false })]
  const { revision: registryRevision } = registry
  await planEvents(db, { batch, lease: newLease(worker), registryRevision, now: new Date() })
  const claimed = await claimDue(db, {
    ...{ lease: newLease(worker), now: hence(1_000), slots: new Map(), otherSlots: both(9), limit: 9 },
  })
  const session = { sub: 'alice', clientId: 'mail' }
  const older = Array.from({ length: held.older }, (_, n) => ({ ...session, sid: `older-${n}` }))
  const times = { startedAt: hence(3_600_000), expiresAt: hence(7_200_000) }
  const later = Array.from({ length: held.later }, (_, n) => ({ ...session, ...times, sid: `later-${n}` }))
  await insertSessions(db, ISS, [...older, ...later])
  const ids = claimed.map(({ id }) => id)
  const settled = await narrowClaimed(db, { ids, workerId: worker, sessionsMax: MAX })
  const rows = await readDeliveries(db)
  expect(ids.map((id) => settled.has(id))).toEqual(
    ids.map((id) => rows.every((row) => row.id !== id || row.state !== 'in_flight')),
  )
  return rows.map(({ state, dead_letter_reason }) => dead_letter_reason ?? state).toSorted()
}

test('up to the maximum, every older session gets a delivery of its own', async () => {
  expect(await narrowed({ older: 2, later: 1 })).toEqual(['pending', 'pending', 'superseded'])
})

test('above the maximum the logout is withheld as a whole, and no session is named', async () => {
  expect(await narrowed({ older: 10, later: 1 })).toEqual(['later_session'])
})

test('above the maximum the logout is withheld if all sessions are later', async () => {
  expect(await narrowed({ older: 0, later: 5 })).toEqual(['later_session'])
})

test('above the maximum an RP that takes only the subject is notified, because its older sessions must end', async () => {
  expect(await narrowed({ older: 10, later: 1 }, { subject_claims: 'sub' })).toEqual(['in_flight'])
})

test('above the maximum the logout is sent if no session is later', async () => {
  expect(await narrowed({ older: 10, later: 0 })).toEqual(['in_flight'])
})
