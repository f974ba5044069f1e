import { hash } from 'node:crypto'
import {
  type ClientId,
  type DeliveryId,
  type InFlightDelivery,
  type LogoutEvent,
  plan,
  type Settlement,
  type Sid,
} from '@curfew/domain'
import {
  createDeliveryLedger,
  type Database,
  oweLateLogouts,
  planEvents,
  projectJournal,
  projectSessions,
  settleDeliveries,
} from '@curfew/ledger'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { blocked, pausedAfter } from '../support/paused-database.ts'
import {
  forgetSessions,
  insertSession,
  type SessionWish,
  sessionsOf,
  startSession,
} from '../support/session-rows.ts'
import {
  ISS,
  newEvent,
  newLease,
  newWorker,
  planFor,
  readDeliveries,
  register,
  registerParty,
  settledAs,
} from './ledger-support.ts'

// Goal: the index knows which logout ends a session, which session is an orphan, and which is over. A session that its logout did
// not know gets a delivery as soon as both are known. Method: the real statements on a real database, step by step.

let database: TestDatabase
let db: Database
let workerId: Awaited<ReturnType<typeof newWorker>>
const sha256 = (text: string) => hash('sha256', text)
const DEAD: Settlement = { state: 'dead_lettered', reason: 'refused' }

beforeAll(async () => {
  database = await createTestDatabase({ poolMax: 8 })
  db = database.db
})
afterAll(() => database.drop())
beforeEach(async () => {
  await db.query(
    'truncate events, deliveries, attempts, workers, leases, journal, bindings, relying_parties, issuers cascade',
  )
  await forgetSessions(db)
  await register(db, 2)
  workerId = await newWorker(db)
})

type Change = Partial<Record<keyof LogoutEvent | 'device', unknown>>

/** Plans a logout as intake does. @returns its id and its deliveries. */
async function logout(change: Change = {}): Promise<{
  readonly id: string
  readonly deliveries: readonly InFlightDelivery[]
}> {
  const event = { ...newEvent({ sub: 'alice' }), ...change } as LogoutEvent
  const ledger = createDeliveryLedger(db)
  const registry = await ledger.readRegistry()
  const issuer = registry.issuers.get(ISS)
  if (issuer === undefined) throw new Error('expected an issuer')
  const found =
    issuer.sessionIssuer === null
      ? new Map<string, never[]>()
      : await ledger.findSessions([{ event, issuer: issuer.sessionIssuer }])
  const known = { kind: 'known', sessions: found.get(event.id) ?? [] } as const
  const { basis, deliveries } = plan(event, issuer, known, sha256)
  const planned = {
    ...planFor(event, []),
    basis,
    deliveries: deliveries.map((owed) => ({ ...owed, leased: true })),
  }
  const request = {
    batch: [planned],
    lease: newLease(workerId),
    registryRevision: registry.revision,
    now: new Date(),
  }
  expect(await planEvents(db, request)).toMatchObject({ ok: true })
  return { id: event.id, deliveries: deliveries.map(({ delivery }) => delivery) }
}

const settle = (deliveries: readonly InFlightDelivery[], settlement?: Settlement) =>
  settleDeliveries(db, {
    batch: deliveries.map((delivery) => settledAs(delivery, settlement)),
    workerId,
    now: new Date(),
  })

/** Projects the whole journal, as a bookkeeper does. */
async function project(): Promise<void> {
  while ((await projectJournal(db, { limit: 100, projectors: [projectSessions] })) !== 0);
}

/** Replays the dead letters; one attempt each is acknowledged. */
async function replayed(deliveries: readonly InFlightDelivery[]): Promise<void> {
  const replay = "update deliveries set state = 'in_flight', settled_at = null, dead_letter_reason = null"
  await db.query(`${replay} where state = 'dead_lettered'`)
  await settle(deliveries.map((delivery) => ({ ...delivery, attempts: 1 })))
  await project()
}

const alice = (clientId: string, sid: string, more: Partial<SessionWish> = {}): SessionWish => ({
  ...{ iss: ISS, sub: 'alice', sid, clientId },
  ...more,
})
const ago = (seconds: number) => new Date(Date.now() - seconds * 1_000)
/** The pending deliveries, as `client:sid`. */
async function waiting(): Promise<readonly string[]> {
  const { rows } = await db.query<{ target: string }>(
    `select p.client_id || ':' || coalesce(d.sid, '*') as target
       from deliveries d join bindings b on b.id = d.binding_id join relying_parties p on p.id = b.relying_party_id
      where d.state = 'pending' order by 1`,
  )
  return rows.map(({ target }) => target)
}

/** The sessions from which the normal lifetime of each client is learnt. */
async function lifetimes(): Promise<Readonly<Record<string, number>>> {
  const { rows } = await db.query<{ clientId: string; sessions: number }>(
    `select p.client_id as "clientId", (select sum(n) from unnest(l.lifetimes) n) as sessions
       from session_lifetimes l join relying_parties p on p.id = l.relying_party_id`,
  )
  return Object.fromEntries(rows.map(({ clientId, sessions }) => [clientId, sessions]))
}

describe('the lifetime of a session that a logout ends', () => {
  test('counts for its client once the logout is acknowledged, and once only', async () => {
    for (const n of [1, 2, 3]) await startSession(db, alice('rp-0', `s${n}`))
    await startSession(db, alice('rp-1', 's4'))
    const { deliveries } = await logout()
    await project()
    await settle(deliveries)
    expect(await lifetimes()).toEqual({})
    await project()
    await project()
    expect(await sessionsOf(db, 'alice')).toEqual([])
    expect(await lifetimes()).toEqual({ 'rp-0': 3, 'rp-1': 1 })
  })

  test('does not count after a bulk logout, which ends sessions of any age', async () => {
    await startSession(db, alice('rp-0', 's1'))
    const { deliveries } = await logout({ lane: 'bulk' })
    await settle(deliveries)
    await project()
    expect(await sessionsOf(db, 'alice')).toEqual([])
    expect(await lifetimes()).toEqual({})
  })

  test('counts if the session was posted after its logout', async () => {
    const { deliveries } = await logout()
    await settle(deliveries)
    await startSession(db, alice('rp-0', 's1'))
    await project()
    expect(await sessionsOf(db, 'alice')).toEqual([])
    expect(await lifetimes()).toEqual({ 'rp-0': 1 })
  })
})

describe('a session that a logout ends', () => {
  test('has the id of the logout, and is deleted when its relying party acknowledges', async () => {
    await startSession(db, alice('rp-0', 's1'))
    await startSession(db, alice('rp-1', 's2'))
    await startSession(db, alice('rp-1', 's3', { startedAt: new Date(Date.now() + 60_000) }))
    const { id, deliveries } = await logout()
    await project()
    const ending = { logoutEventId: id, orphaned: false }
    const later = { clientId: 'rp-1', sid: 's3', logoutEventId: null, orphaned: false }
    expect(await sessionsOf(db, 'alice')).toEqual([
      { clientId: 'rp-0', sid: 's1', ...ending },
      { clientId: 'rp-1', sid: 's2', ...ending },
      later,
    ])
    await settle(deliveries.slice(0, 1))
    await project()
    expect(await sessionsOf(db, 'alice')).toEqual([{ clientId: 'rp-1', sid: 's2', ...ending }, later])
    await settle(deliveries.slice(1))
    await project()
    expect(await sessionsOf(db, 'alice')).toEqual([later])
  })

  test('is an orphan when its logout is dead or lapsed, until a replay is acknowledged', async () => {
    await startSession(db, alice('rp-0', 's1'))
    await startSession(db, alice('rp-1', 's1'))
    const { deliveries } = await logout({ scope: 'session', sid: 's1' })
    await settle(deliveries.slice(0, 1), DEAD)
    await settle(deliveries.slice(1), { state: 'lapsed' })
    await project()
    expect((await sessionsOf(db, 'alice')).map(({ orphaned }) => orphaned)).toEqual([true, true])
    await replayed(deliveries.slice(0, 1))
    expect(await sessionsOf(db, 'alice')).toMatchObject([{ clientId: 'rp-1', orphaned: true }])
  })

  test('is deleted only when all endpoints of its relying party have acknowledged', async () => {
    await db.query(`insert into bindings (relying_party_id, kind, endpoint, uri, settings, names, widens, counts)
      select id, 'backchannel', 'eu', 'https://eu.example', '{}', 'either', true, 'done' from relying_parties where client_id = 'rp-0'`)
    await startSession(db, alice('rp-0', 's1'))
    const { deliveries } = await logout({ scope: 'session', sid: 's1', clients: ['rp-0'] })
    expect(deliveries).toHaveLength(2)
    await settle(deliveries.slice(0, 1))
    await project()
    expect(await sessionsOf(db, 'alice')).toMatchObject([{ orphaned: false }])
    await settle(deliveries.slice(1), DEAD)
    await project()
    expect(await sessionsOf(db, 'alice')).toMatchObject([{ orphaned: true }])
    await replayed(deliveries.slice(1))
    expect(await sessionsOf(db, 'alice')).toEqual([])
  })

  test.each(['begun', 'received', 'unconfirmable'] as const)(
    'is kept if its relying party acknowledges as %s, and the next logout is delivered again',
    async (level) => {
      await db.query("update issuers set session_index = 'complete'")
      await startSession(db, alice('rp-0', 's1'))
      const first = await logout()
      expect(first.deliveries).toHaveLength(1)
      await settle(first.deliveries, { state: 'acknowledged', level })
      await project()
      const [session] = await sessionsOf(db, 'alice')
      expect(session).toMatchObject({ logoutEventId: first.id, orphaned: false })
      const second = await logout()
      expect(second.deliveries).toHaveLength(1)
      await settle(second.deliveries)
      await project()
      expect(await sessionsOf(db, 'alice')).toEqual([])
    },
  )

  test('is deleted at the initiator of the logout, and unchanged at a client that the logout does not name', async () => {
    await startSession(db, alice('rp-0', 's1'))
    await startSession(db, alice('rp-1', 's1'))
    await logout({ initiator: 'rp-0', clients: ['rp-0'] })
    await project()
    expect(await sessionsOf(db, 'alice')).toEqual([
      { clientId: 'rp-1', sid: 's1', logoutEventId: null, orphaned: false },
    ])
  })

  test('at a client that is not registered is an orphan at once', async () => {
    await startSession(db, alice('rp-0', 's1'))
    await startSession(db, alice('unregistered', 's1'))
    await logout()
    await project()
    expect(await sessionsOf(db, 'alice')).toMatchObject([
      { clientId: 'rp-0', orphaned: false },
      { clientId: 'unregistered', orphaned: true },
    ])
  })

  test('has the id of the newer logout that supersedes the older one', async () => {
    await db.query("update issuers set session_index = 'complete'")
    await startSession(db, alice('rp-0', 's1'))
    const first = await logout({ scope: 'session', sid: 's1', clients: ['rp-0'] })
    await settle(first.deliveries, { state: 'pending', dueAt: new Date(), retries: 1, refusals: 0 })
    const second = await logout({ clients: ['rp-0'] })
    await project()
    expect((await readDeliveries(db)).map(({ state }) => state).toSorted()).toEqual([
      'in_flight',
      'superseded',
    ])
    expect(await sessionsOf(db, 'alice')).toMatchObject([{ logoutEventId: second.id, orphaned: false }])
    await settle(second.deliveries)
    await project()
    expect(await sessionsOf(db, 'alice')).toEqual([])
  })

  test('follows a superseded delivery to the newer one, even if its event is older than the session', async () => {
    await startSession(db, alice('rp-0', 's1'))
    const session = { scope: 'session', sid: 's1', clients: ['rp-0'] }
    const first = await logout(session)
    await settle(first.deliveries, { state: 'pending', dueAt: new Date(), retries: 1, refusals: 0 })
    const second = await logout({ ...session, occurredAt: ago(120) })
    await project()
    expect(await sessionsOf(db, 'alice')).toMatchObject([{ logoutEventId: second.id, orphaned: false }])
    await settle(second.deliveries)
    await project()
    expect(await sessionsOf(db, 'alice')).toEqual([])
  })

  test.each<[string, Settlement | undefined, readonly object[]]>([
    ['acknowledged', undefined, []],
    ['dead', DEAD, [{ orphaned: true }]],
  ])(
    'follows a superseded delivery to a newer one that is %s before both are projected',
    async (_, end, left) => {
      await startSession(db, alice('rp-0', 's1'))
      const session = { scope: 'session', sid: 's1', clients: ['rp-0'] }
      const first = await logout(session)
      await project()
      await settle(first.deliveries, { state: 'pending', dueAt: new Date(), retries: 1, refusals: 0 })
      const second = await logout({ ...session, occurredAt: ago(120) })
      await settle(second.deliveries, end)
      await project()
      expect(await sessionsOf(db, 'alice')).toMatchObject(left)
    },
  )

  test('stays an orphan even if a writer that read it before its logout failed writes later', async () => {
    const session = await startSession(db, alice('rp-0', 's1'))
    const { deliveries } = await logout({ clients: ['rp-0'] })
    await project()
    let dead: Promise<void> | null = null
    const paused = pausedAfter(db, 'session_deliveries', async () => {
      await settle(deliveries, DEAD)
      dead = project()
      await Promise.race([dead, blocked(db)])
    })
    await oweLateLogouts(paused, [session])
    await dead
    expect(await sessionsOf(db, 'alice')).toMatchObject([{ orphaned: true }])
  })

  test('keeps the id of the latest logout when an earlier one fails', async () => {
    await startSession(db, alice('rp-0', 's1'))
    const first = await logout({ clients: ['rp-0'], occurredAt: ago(10) })
    const second = await logout({ clients: ['rp-0'] })
    await project()
    await settle(first.deliveries, DEAD)
    await project()
    expect(await sessionsOf(db, 'alice')).toMatchObject([{ logoutEventId: second.id, orphaned: false }])
  })
})

describe('a session that reaches the index after its logout', () => {
  test.each<[string, Change]>([
    ['subject', {}],
    ['session', { scope: 'session', sid: 's2' }],
    ['session without a subject', { scope: 'session', sub: null, sid: 's2' }],
    ['device', { scope: 'device', device: 'phone' }],
  ])('gets the missing delivery once, from a logout of the scope %s', async (_, change) => {
    await db.query("update issuers set session_index = 'complete'")
    await startSession(db, alice('rp-0', 's1', { device: 'phone' }))
    await startSession(db, alice('rp-0', 's2', { device: 'phone' }))
    const { id, deliveries } = await logout(change)
    await settle(deliveries)
    const late = await startSession(db, alice('rp-1', 's2', { startedAt: ago(30), device: 'phone' }))
    expect(await waiting()).toEqual(['rp-1:s2'])
    await oweLateLogouts(db, [late])
    await project()
    expect((await sessionsOf(db, 'alice')).at(-1)).toMatchObject({ clientId: 'rp-1', logoutEventId: id })
    expect(await waiting()).toEqual(['rp-1:s2'])
  })

  test('is found by the projection of the plan if the start did not look for a logout', async () => {
    await db.query("update issuers set session_index = 'complete'")
    await startSession(db, alice('rp-0', 's1'))
    await logout()
    await insertSession(db, alice('rp-0', 's2'))
    await project()
    expect(await waiting()).toEqual(['rp-0:s2'])
    const { rows } = await db.query(
      "select session_ends_at, target from deliveries where sid in ('s1', 's2')",
    )
    expect(rows).toHaveLength(2)
    for (const row of rows)
      expect(row).toEqual({ session_ends_at: expect.any(Date), target: expect.any(String) })
  })

  test('gets no delivery if its relying party was notified of the subject after it began', async () => {
    const { deliveries } = await logout()
    expect(deliveries.map(({ sid }) => sid)).toEqual([null, null])
    await settle(deliveries.slice(0, 1))
    await startSession(db, alice('rp-0', 's1'))
    await startSession(db, alice('rp-1', 's1'))
    expect(await waiting()).toEqual([])
    // The first relying party has acknowledged, the delivery to the second is in flight.
    expect(await sessionsOf(db, 'alice')).toMatchObject([{ clientId: 'rp-1', orphaned: false }])
  })

  test.each<[string, Change, Partial<SessionWish>]>([
    ['it began after the logout', { occurredAt: ago(90) }, {}],
    ['the logout does not name its client', { clients: ['rp-0'] }, {}],
    ['it is on another device', { scope: 'device', device: 'phone' }, { device: 'laptop' }],
    ['it has expired', {}, { expiresAt: ago(1) }],
  ])('gets no delivery if %s', async (_, change, wish) => {
    await db.query("update issuers set session_index = 'complete'")
    await startSession(db, alice('rp-0', 's1', { startedAt: ago(120), device: 'phone' }))
    await logout(change)
    await startSession(db, alice('rp-1', 's2', wish))
    expect(await waiting()).toEqual([])
    const late = (await sessionsOf(db, 'alice')).find(({ sid }) => sid === 's2')
    expect(late?.logoutEventId ?? null).toBeNull()
  })

  test('gets the delivery of an earlier logout if no later logout applies to it', async () => {
    await db.query("update issuers set session_index = 'complete'")
    await startSession(db, alice('rp-0', 's1', { startedAt: ago(120), device: 'phone' }))
    await logout({ scope: 'session', sub: null, sid: 's2', occurredAt: ago(90) })
    await logout({ occurredAt: ago(30) })
    await logout({ scope: 'device', device: 'phone', occurredAt: ago(20) })
    await logout({ clients: ['rp-0'], occurredAt: ago(10) })
    await startSession(db, alice('rp-1', 's2', { device: 'laptop' }))
    expect(await waiting()).toEqual(['rp-1:s2'])
  })

  test('gets a delivery if its relying party takes only the subject and acknowledged before it began', async () => {
    await registerParty(db, 'rp-0', { subject_claims: 'sub' })
    // The clock of the IdP is ahead.
    const { id, deliveries } = await logout({ clients: ['rp-0'], occurredAt: ago(-120) })
    await settle(deliveries)
    await startSession(db, alice('rp-0', 's1', { startedAt: ago(-60) }))
    expect(await waiting()).toEqual(['rp-0:s1'])
    expect(await sessionsOf(db, 'alice')).toMatchObject([{ logoutEventId: id, orphaned: false }])
    await db.query(
      "update deliveries set state = 'in_flight', due_at = null, leased_by = $1, leased_at = now() where state = 'pending'",
      [workerId],
    )
    const { rows } = await db.query<{ id: DeliveryId }>("select id from deliveries where state = 'in_flight'")
    await settle(rows.map((row) => ({ ...(deliveries[0] as InFlightDelivery), id: row.id })))
    await project()
    expect(await sessionsOf(db, 'alice')).toEqual([])
  })

  test('at the initiator is over after a logout of the subject, but not after a logout of another session', async () => {
    await logout({ initiator: 'rp-1' })
    await startSession(db, alice('rp-1', 's2'))
    expect(await sessionsOf(db, 'alice')).toEqual([])
    await logout({ initiator: 'rp-1', sid: 's2', clients: ['rp-1'] })
    await startSession(db, alice('rp-1', 's2'))
    await startSession(db, alice('rp-1', 's3'))
    expect(await waiting()).toEqual(['rp-1:s3'])
  })

  test('gets no delivery if the session index is off', async () => {
    await startSession(db, alice('rp-0', 's1'))
    await logout()
    await db.query("update issuers set session_index = 'off'")
    await startSession(db, alice('rp-0', 's2'))
    await project()
    expect(await waiting()).toEqual([])
  })

  test('is logged out even if its start races with the logout', async () => {
    await db.query("update issuers set session_index = 'complete'")
    await startSession(db, alice('rp-0', 'known'))
    for (let round = 0; round < 30; round++) {
      const wish = alice('rp-1', `s${round}`)
      await Promise.all([
        logout({ occurredAt: new Date(), initiator: 'rp-0' as ClientId }).then(project),
        startSession(db, wish),
      ])
      await project()
      const { rows } = await db.query<{ sid: Sid | null; n: number }>(
        'select sid, count(*) as n from deliveries group by sid',
      )
      expect(rows.find(({ sid }) => sid === null || sid === wish.sid)?.n).toBeGreaterThan(0)
      for (const table of ['events', 'deliveries', 'journal']) await db.query(`delete from ${table}`)
      await forgetSessions(db)
      await startSession(db, alice('rp-0', 'known'))
    }
  })
})
