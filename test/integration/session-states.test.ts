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

// Goal: the index knows which logout sees to a session, which came to nothing, and what is over; what a logout did not know of
// when it was planned is owed as soon as both are known. Method: the real statements on a real database, step by step.

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

/** Plans a logout as intake does; gives back its deliveries. */
async function logout(change: Change = {}): Promise<{
  readonly id: string
  readonly deliveries: readonly InFlightDelivery[]
}> {
  const event = { ...newEvent({ sub: 'alice' }), ...change } as LogoutEvent
  const ledger = createDeliveryLedger(db)
  const registry = await ledger.readRegistry()
  const issuer = registry.issuers.get(ISS)
  if (issuer === undefined) throw new Error('an issuer')
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

/** As the bookkeeper: until nothing is left in the journal. */
async function post(): Promise<void> {
  while ((await projectJournal(db, { limit: 100, projectors: [projectSessions] })) !== 0);
}

/** Puts dead letters back, of which the relying party takes one attempt each. */
async function replayed(deliveries: readonly InFlightDelivery[]): Promise<void> {
  const replay = "update deliveries set state = 'in_flight', settled_at = null, dead_letter_reason = null"
  await db.query(`${replay} where state = 'dead_lettered'`)
  await settle(deliveries.map((delivery) => ({ ...delivery, attempts: 1 })))
  await post()
}

const alice = (clientId: string, sid: string, more: Partial<SessionWish> = {}): SessionWish => ({
  ...{ iss: ISS, sub: 'alice', sid, clientId },
  ...more,
})
const ago = (seconds: number) => new Date(Date.now() - seconds * 1_000)
/** What is pending, as `client:sid`. */
async function waiting(): Promise<readonly string[]> {
  const { rows } = await db.query<{ who: string }>(
    `select p.client_id || ':' || coalesce(d.sid, '*') as who
       from deliveries d join bindings b on b.id = d.binding_id join relying_parties p on p.id = b.relying_party_id
      where d.state = 'pending' order by 1`,
  )
  return rows.map(({ who }) => who)
}

describe('a session that a logout sees to', () => {
  test('bears its id, and is forgotten when its relying party has acknowledged', async () => {
    await startSession(db, alice('rp-0', 's1'))
    await startSession(db, alice('rp-1', 's2'))
    await startSession(db, alice('rp-1', 's3', { startedAt: new Date(Date.now() + 60_000) }))
    const { id, deliveries } = await logout()
    await post()
    const covered = { logoutEventId: id, orphaned: false }
    const later = { clientId: 'rp-1', sid: 's3', logoutEventId: null, orphaned: false }
    expect(await sessionsOf(db, 'alice')).toEqual([
      { clientId: 'rp-0', sid: 's1', ...covered },
      { clientId: 'rp-1', sid: 's2', ...covered },
      later,
    ])
    await settle(deliveries.slice(0, 1))
    await post()
    expect(await sessionsOf(db, 'alice')).toEqual([{ clientId: 'rp-1', sid: 's2', ...covered }, later])
    await settle(deliveries.slice(1))
    await post()
    expect(await sessionsOf(db, 'alice')).toEqual([later])
  })

  test('is an orphan once its logout is given up on or lapses, until that is replayed and acknowledged', async () => {
    await startSession(db, alice('rp-0', 's1'))
    await startSession(db, alice('rp-1', 's1'))
    const { deliveries } = await logout({ scope: 'session', sid: 's1' })
    await settle(deliveries.slice(0, 1), DEAD)
    await settle(deliveries.slice(1), { state: 'lapsed' })
    await post()
    expect((await sessionsOf(db, 'alice')).map(({ orphaned }) => orphaned)).toEqual([true, true])
    await replayed(deliveries.slice(0, 1))
    expect(await sessionsOf(db, 'alice')).toMatchObject([{ clientId: 'rp-1', orphaned: true }])
  })

  test('is forgotten only when all endpoints of its relying party have acknowledged', async () => {
    await db.query(`insert into bindings (relying_party_id, kind, endpoint, uri, settings, names, widens, counts)
      select id, 'backchannel', 'eu', 'https://eu.example', '{}', 'either', true, 'done' from relying_parties where client_id = 'rp-0'`)
    await startSession(db, alice('rp-0', 's1'))
    const { deliveries } = await logout({ scope: 'session', sid: 's1', clients: ['rp-0'] })
    expect(deliveries).toHaveLength(2)
    await settle(deliveries.slice(0, 1))
    await post()
    expect(await sessionsOf(db, 'alice')).toMatchObject([{ orphaned: false }])
    await settle(deliveries.slice(1), DEAD)
    await post()
    expect(await sessionsOf(db, 'alice')).toMatchObject([{ orphaned: true }])
    await replayed(deliveries.slice(1))
    expect(await sessionsOf(db, 'alice')).toEqual([])
  })

  test.each(['begun', 'received', 'unconfirmable'] as const)(
    'stays where its relying party acknowledges as %s, and the next logout is delivered again',
    async (level) => {
      await db.query("update issuers set session_index = 'complete'")
      await startSession(db, alice('rp-0', 's1'))
      const first = await logout()
      expect(first.deliveries).toHaveLength(1)
      await settle(first.deliveries, { state: 'acknowledged', level })
      await post()
      const [session] = await sessionsOf(db, 'alice')
      expect(session).toMatchObject({ logoutEventId: first.id, orphaned: false })
      const second = await logout()
      expect(second.deliveries).toHaveLength(1)
      await settle(second.deliveries)
      await post()
      expect(await sessionsOf(db, 'alice')).toEqual([])
    },
  )

  test('is forgotten at the client that started the logout, and left alone at one that is not meant', async () => {
    await startSession(db, alice('rp-0', 's1'))
    await startSession(db, alice('rp-1', 's1'))
    await logout({ initiator: 'rp-0', clients: ['rp-0'] })
    await post()
    expect(await sessionsOf(db, 'alice')).toEqual([
      { clientId: 'rp-1', sid: 's1', logoutEventId: null, orphaned: false },
    ])
  })

  test('of a client that nobody can tell is an orphan at once', async () => {
    await startSession(db, alice('rp-0', 's1'))
    await startSession(db, alice('nobody', 's1'))
    await logout()
    await post()
    expect(await sessionsOf(db, 'alice')).toMatchObject([
      { clientId: 'nobody', orphaned: true },
      { clientId: 'rp-0', orphaned: false },
    ])
  })

  test('is seen to by the newer logout that covers the older one', async () => {
    await db.query("update issuers set session_index = 'complete'")
    await startSession(db, alice('rp-0', 's1'))
    const first = await logout({ scope: 'session', sid: 's1', clients: ['rp-0'] })
    await settle(first.deliveries, { state: 'pending', dueAt: new Date(), retries: 1, refusals: 0 })
    const second = await logout({ clients: ['rp-0'] })
    await post()
    expect((await readDeliveries(db)).map(({ state }) => state).toSorted()).toEqual([
      'in_flight',
      'superseded',
    ])
    expect(await sessionsOf(db, 'alice')).toMatchObject([{ logoutEventId: second.id, orphaned: false }])
    await settle(second.deliveries)
    await post()
    expect(await sessionsOf(db, 'alice')).toEqual([])
  })

  test('follows its delivery to the one that covers it, though that event came before the session', async () => {
    await startSession(db, alice('rp-0', 's1'))
    const session = { scope: 'session', sid: 's1', clients: ['rp-0'] }
    const first = await logout(session)
    await settle(first.deliveries, { state: 'pending', dueAt: new Date(), retries: 1, refusals: 0 })
    const second = await logout({ ...session, occurredAt: ago(120) })
    await post()
    expect(await sessionsOf(db, 'alice')).toMatchObject([{ logoutEventId: second.id, orphaned: false }])
    await settle(second.deliveries)
    await post()
    expect(await sessionsOf(db, 'alice')).toEqual([])
  })

  test.each<[string, Settlement | undefined, readonly object[]]>([
    ['which is acknowledged', undefined, []],
    ['which comes to nothing', DEAD, [{ orphaned: true }]],
  ])('follows it also where both were settled before anybody looked: %s', async (_, end, left) => {
    await startSession(db, alice('rp-0', 's1'))
    const session = { scope: 'session', sid: 's1', clients: ['rp-0'] }
    const first = await logout(session)
    await post()
    await settle(first.deliveries, { state: 'pending', dueAt: new Date(), retries: 1, refusals: 0 })
    const second = await logout({ ...session, occurredAt: ago(120) })
    await settle(second.deliveries, end)
    await post()
    expect(await sessionsOf(db, 'alice')).toMatchObject(left)
  })

  test('stays an orphan whoever looked at it before its logout came to nothing, and writes after', async () => {
    const session = await startSession(db, alice('rp-0', 's1'))
    const { deliveries } = await logout({ clients: ['rp-0'] })
    await post()
    let dead: Promise<void> | null = null
    const paused = pausedAfter(db, 'session_deliveries', async () => {
      await settle(deliveries, DEAD)
      dead = post()
      await Promise.race([dead, blocked(db)])
    })
    await oweLateLogouts(paused, [session])
    await dead
    expect(await sessionsOf(db, 'alice')).toMatchObject([{ orphaned: true }])
  })

  test('is not taken from the latest logout by what becomes of an earlier one', async () => {
    await startSession(db, alice('rp-0', 's1'))
    const first = await logout({ clients: ['rp-0'], occurredAt: ago(10) })
    const second = await logout({ clients: ['rp-0'] })
    await post()
    await settle(first.deliveries, DEAD)
    await post()
    expect(await sessionsOf(db, 'alice')).toMatchObject([{ logoutEventId: second.id, orphaned: false }])
  })
})

describe('a session that is known only after its logout', () => {
  test.each<[string, Change]>([
    ['of the subject', {}],
    ['of the session', { scope: 'session', sid: 's2' }],
    ['of the session, whoever has it', { scope: 'session', sub: null, sid: 's2' }],
    ['of the device', { scope: 'device', device: 'phone' }],
  ])('%s is owed what was missed, once', async (_, change) => {
    await db.query("update issuers set session_index = 'complete'")
    await startSession(db, alice('rp-0', 's1', { device: 'phone' }))
    await startSession(db, alice('rp-0', 's2', { device: 'phone' }))
    const { id, deliveries } = await logout(change)
    await settle(deliveries)
    const late = await startSession(db, alice('rp-1', 's2', { startedAt: ago(30), device: 'phone' }))
    expect(await waiting()).toEqual(['rp-1:s2'])
    await oweLateLogouts(db, [late])
    await post()
    expect((await sessionsOf(db, 'alice')).at(-1)).toMatchObject({ clientId: 'rp-1', logoutEventId: id })
    expect(await waiting()).toEqual(['rp-1:s2'])
  })

  test('is found by what was planned too, where the start was applied and nobody looked', async () => {
    await db.query("update issuers set session_index = 'complete'")
    await startSession(db, alice('rp-0', 's1'))
    await logout()
    await insertSession(db, alice('rp-0', 's2'))
    await post()
    expect(await waiting()).toEqual(['rp-0:s2'])
    const { rows } = await db.query(
      "select session_ends_at, target from deliveries where sid in ('s1', 's2')",
    )
    expect(rows).toHaveLength(2)
    for (const row of rows)
      expect(row).toEqual({ session_ends_at: expect.any(Date), target: expect.any(String) })
  })

  test('is owed nothing where its relying party was told of the subject after it began', async () => {
    const { deliveries } = await logout()
    expect(deliveries.map(({ sid }) => sid)).toEqual([null, null])
    await settle(deliveries.slice(0, 1))
    await startSession(db, alice('rp-0', 's1'))
    await startSession(db, alice('rp-1', 's1'))
    expect(await waiting()).toEqual([])
    // The first has acknowledged, the second is being told.
    expect(await sessionsOf(db, 'alice')).toMatchObject([{ clientId: 'rp-1', orphaned: false }])
  })

  test.each<[string, Change, Partial<SessionWish>]>([
    ['which began after it', { occurredAt: ago(90) }, {}],
    ['at a client that is not meant', { clients: ['rp-0'] }, {}],
    ['on another device', { scope: 'device', device: 'phone' }, { device: 'laptop' }],
    ['that is over by itself', {}, { expiresAt: ago(1) }],
  ])('%s is owed nothing', async (_, change, wish) => {
    await db.query("update issuers set session_index = 'complete'")
    await startSession(db, alice('rp-0', 's1', { startedAt: ago(120), device: 'phone' }))
    await logout(change)
    await startSession(db, alice('rp-1', 's2', wish))
    expect(await waiting()).toEqual([])
    const late = (await sessionsOf(db, 'alice')).find(({ sid }) => sid === 's2')
    expect(late?.logoutEventId ?? null).toBeNull()
  })

  test('is owed what an earlier logout said of it, where a later one is not about it, nor one of its sid', async () => {
    await db.query("update issuers set session_index = 'complete'")
    await startSession(db, alice('rp-0', 's1', { startedAt: ago(120), device: 'phone' }))
    await logout({ scope: 'session', sub: null, sid: 's2', occurredAt: ago(90) })
    await logout({ occurredAt: ago(30) })
    await logout({ scope: 'device', device: 'phone', occurredAt: ago(20) })
    await logout({ clients: ['rp-0'], occurredAt: ago(10) })
    await startSession(db, alice('rp-1', 's2', { device: 'laptop' }))
    expect(await waiting()).toEqual(['rp-1:s2'])
  })

  test('is told again where its relying party, which takes the subject only, acknowledged before it began', async () => {
    await registerParty(db, 'rp-0', { subject_claims: 'sub' })
    // By a clock that is ahead of ours.
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
    await post()
    expect(await sessionsOf(db, 'alice')).toEqual([])
  })

  test('at the client that started the logout is over, but not beside the one that it was started in', async () => {
    await logout({ initiator: 'rp-1' })
    await startSession(db, alice('rp-1', 's2'))
    expect(await sessionsOf(db, 'alice')).toEqual([])
    await logout({ initiator: 'rp-1', sid: 's2', clients: ['rp-1'] })
    await startSession(db, alice('rp-1', 's2'))
    await startSession(db, alice('rp-1', 's3'))
    expect(await waiting()).toEqual(['rp-1:s3'])
  })

  test('is owed nothing where the index is off', async () => {
    await startSession(db, alice('rp-0', 's1'))
    await logout()
    await db.query("update issuers set session_index = 'off'")
    await startSession(db, alice('rp-0', 's2'))
    await post()
    expect(await waiting()).toEqual([])
  })

  test('whichever of the two comes first, and however close, is logged out', async () => {
    await db.query("update issuers set session_index = 'complete'")
    await startSession(db, alice('rp-0', 'known'))
    for (let round = 0; round < 30; round++) {
      const wish = alice('rp-1', `s${round}`)
      await Promise.all([
        logout({ occurredAt: new Date(), initiator: 'rp-0' as ClientId }).then(post),
        startSession(db, wish),
      ])
      await post()
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
