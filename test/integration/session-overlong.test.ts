import { createSessionJobs } from '@curfew/bookkeeper'
import type { ClientId, Issuer, Session, SessionEnd, Sid, Subject } from '@curfew/domain'
import { applySessions, countOverlong, expireSessions, listSessionPartitions } from '@curfew/ledger'
import { createLog, createMetrics } from '@curfew/runtime'
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { type Curfew, eventually, ISS, ISSUER, openCurfew } from '../support/curfew.ts'
import { recording } from '../support/explain.ts'
import { openWebhookReceiver } from '../support/webhook-receiver.ts'
import { registerQuietly } from './dead-letters-support.ts'

// Goal: an operator finds the sessions that live far longer than is normal for their client, however the IdP states their ends.
// Method: the real API, statements and bookkeepers. The times of sessions and of their ends are stated, so that hours pass at once.

const HOUR_MS = 3_600_000
let curfew: Curfew
beforeEach(async () => {
  curfew = await openCurfew({
    workers: 0,
    notifying: { webhookScheduleMs: [1], deadLetterWindowMs: 1, breakerQuietMs: 60_000, outcomesLagMs: 0 },
  })
  await registerQuietly(curfew.call, ['shop', 'wiki'])
})
afterEach(() => curfew.stop())

const hoursAgo = (hours: number) => new Date(Date.now() - hours * HOUR_MS)
interface Wish {
  readonly hours: number
  readonly clientId?: string
  readonly iss?: string
  /** Hours from now; null: no end. Default: null. */
  readonly endsIn?: number | null
}
const session = (sid: string, { hours, clientId = 'shop', iss = ISS, endsIn = null }: Wish): Session => ({
  ...{
    iss: iss as Issuer,
    sub: `user of ${sid}` as Subject,
    sid: sid as Sid,
    clientId: clientId as ClientId,
  },
  ...{ device: null, startedAt: hoursAgo(hours), startedStated: true, acceptedAt: hoursAgo(hours) },
  expiresAt: endsIn === null ? null : hoursAgo(-endsIn),
})
const hold = (...starts: readonly Session[]) => applySessions(curfew.db, { ends: [], starts })
const end = (ended: readonly Session[], acceptedAt: Date) =>
  applySessions(curfew.db, {
    ends: ended.map(({ iss, sid }): SessionEnd => ({ iss, sid, clientId: null, acceptedAt })),
    starts: [],
  })

/** Sessions of a client that each lasted for `hours`, and ended a while ago. */
async function ended(count: number, hours: number, wish: Partial<Wish> = {}): Promise<void> {
  const sessions = Array.from({ length: count }, (_, n) =>
    session(`ended-${n}`, { ...wish, hours: hours + 10 }),
  )
  await hold(...sessions)
  await end(sessions, hoursAgo(10))
}
const count = (limit = 100, ageMs = 0) => countOverlong(curfew.db, { limit, ageMs, windowMs: 60_000 })
const overlong = async (filter: { client_id?: string; limit?: number; cursor?: string } = {}) =>
  curfew.client.listSessions({ iss: ISS, overlong: true, ...filter })
const sids = async (filter = {}) => (await overlong(filter)).items.map(({ sid }) => sid)
const lifetimes = async () =>
  (
    await curfew.db.query<{ clientId: string; sessions: number; overlong: number }>(
      `select p.client_id as "clientId", (select sum(n) from unnest(l.lifetimes) n) as sessions, l.overlong
         from session_lifetimes l join relying_parties p on p.id = l.relying_party_id order by 1`,
    )
  ).rows

describe('the list of overlong sessions', () => {
  test('has the live sessions beyond three normal lifetimes of their client, the oldest first', async () => {
    await ended(200, 2)
    await hold(
      session('fresh', { hours: 5 }),
      session('forgotten', { hours: 9 }),
      session('oldest', { hours: 900 }),
      session('ends tomorrow', { hours: 30, endsIn: 24 }),
      session('kept alive', { hours: 31, endsIn: 0.5 }),
      session('of a client without ended sessions', { hours: 900, clientId: 'wiki' }),
    )
    expect(await sids()).toEqual([])
    expect(await count()).toEqual({ clients: 1, noticed: [{ issuer: ISSUER, count: 4 }] })
    const { items, next_cursor } = await overlong()
    expect(next_cursor).toBeNull()
    expect(items.map(({ sid }) => sid)).toEqual(['oldest', 'kept alive', 'ends tomorrow', 'forgotten'])
    const since = Date.parse(items[0]?.overlong_since ?? '') - Date.parse(items[0]?.started_at ?? '')
    expect(since / HOUR_MS).toBeGreaterThanOrEqual(6)
    expect(since / HOUR_MS).toBeLessThan(7.5)
    const ofOne = async (sid: string) => (await curfew.client.listSessions({ iss: ISS, sid })).items[0]
    expect((await ofOne('oldest'))?.overlong_since).toBe(items[0]?.overlong_since)
    expect((await ofOne('fresh'))?.overlong_since).toBeNull()
  })

  test('leaves out a session that has ended or expired, before the next count', async () => {
    await ended(200, 2)
    const [left, gone] = [session('left', { hours: 50 }), session('gone', { hours: 60 })]
    await hold(left, gone, session('expired', { hours: 70, endsIn: 1 }))
    await count()
    await end([gone], new Date())
    await curfew.db.query(`update sessions set expires_at = now() - interval '1 s' where sid = 'expired'`)
    expect(await sids()).toEqual(['left'])
  })

  test('has pages and a filter by client, and sessions that began at one instant come once', async () => {
    for (const clientId of ['shop', 'wiki']) await ended(150, 1, { clientId })
    const sessions = ['shop', 'wiki'].flatMap((clientId) =>
      Array.from({ length: 7 }, (_, n) => session(`${clientId}-${n}`, { hours: 100, clientId })),
    )
    const [first] = sessions
    await hold(...sessions.map((each) => ({ ...each, startedAt: first?.startedAt ?? new Date() })))
    await count()
    for (const limit of [1, 2, 7, 14]) {
      const seen: string[] = []
      for (let cursor: string | null = ''; cursor !== null; ) {
        const page = await overlong({ limit, ...(cursor !== '' && { cursor }) })
        expect(page.items.length).toBeLessThanOrEqual(limit)
        seen.push(...page.items.map(({ sid }) => sid))
        cursor = page.next_cursor
      }
      expect(seen).toEqual(sessions.map(({ sid }) => sid))
    }
    expect(await sids({ client_id: 'wiki' })).toEqual(sessions.slice(7).map(({ sid }) => sid))
    expect(await sids({ client_id: 'none' })).toEqual([])
  })

  test.each([
    'overlong=true&sub=alice',
    'overlong=true&sid=s',
    'overlong=false',
    'overlong=maybe',
    `overlong=true&cursor=${Buffer.from('["shop"]').toString('base64url')}`,
  ])('answers 400 to %s', async (query) => {
    const response = await curfew.call('GET', `/v1/sessions?iss=${encodeURIComponent(ISS)}&${query}`)
    expect(response.status).toBe(400)
  })
})

describe('the lifetimes of a client', () => {
  test('say nothing before a hundred sessions have ended', async () => {
    await hold(session('old', { hours: 900 }))
    await ended(99, 1)
    expect(await count()).toEqual({ clients: 1, noticed: [] })
    await ended(1, 1)
    expect((await count()).noticed).toEqual([{ issuer: ISSUER, count: 1 }])
  })

  test('are not learnt from sessions that ended by impossible times, by themselves, or at unregistered clients', async () => {
    const odd = [
      session('before it began', { hours: 1 }),
      session('unregistered client', { hours: 50, clientId: 'stranger' }),
      session('unregistered issuer', { hours: 50, iss: 'https://other.example' }),
    ]
    const inTheFuture = session('in the future', { hours: -5 })
    const expired = session('expired', { hours: 50, endsIn: 1 })
    await hold(...odd, inTheFuture, expired)
    await curfew.db.query(`update sessions set expires_at = now() - interval '20 h' where sid = 'expired'`)
    await end(odd, hoursAgo(10))
    await end([inTheFuture, expired], new Date())
    expect(await lifetimes()).toEqual([])
    const ancient = { ...session('ancient', { hours: 1 }), startedAt: new Date('0001-01-01T00:00:00Z') }
    await hold(ancient)
    await end([ancient], new Date())
    expect(await lifetimes()).toEqual([{ clientId: 'shop', sessions: 1, overlong: 0 }])
  })

  test('take in a batch of ended sessions with one statement, and batches of several workers at once', async () => {
    const sessions = Array.from({ length: 400 }, (_, n) =>
      session(`s${n}`, { hours: 5, clientId: n % 2 === 0 ? 'shop' : 'wiki' }),
    )
    await hold(...sessions)
    const db = recording(curfew.db)
    const batches = [0, 1, 2, 3].map((part) => sessions.slice(part * 100, part * 100 + 100))
    await Promise.all(
      batches.map((batch) =>
        applySessions(db, { ends: batch.map(({ iss, sid }) => ({ iss, sid, clientId: null })), starts: [] }),
      ),
    )
    expect(await lifetimes()).toEqual([
      { clientId: 'shop', sessions: 200, overlong: 0 },
      { clientId: 'wiki', sessions: 200, overlong: 0 },
    ])
    // For each batch: find the issuer, end the sessions, record their lifetimes.
    expect(db.statements).toHaveLength(4 * 3)
  })

  test('are halved once there are thousands, so that a change shows', async () => {
    await ended(4_000, 1)
    await count()
    expect(await lifetimes()).toEqual([{ clientId: 'shop', sessions: 2_000, overlong: 0 }])
    await hold(session('of today', { hours: 30 }))
    await count()
    expect(await sids()).toEqual(['of today'])
    await ended(100, 24)
    await count()
    expect(await sids()).toEqual([])
  })

  test('give no limit while more sessions expire than end, and count each expired session once', async () => {
    const expire = async (n: number) => {
      const all = Array.from({ length: n }, (_, index) => session(`run-${index}`, { hours: 20, endsIn: 1 }))
      await hold(...all)
      await curfew.db.query(`update sessions set expires_at = now() - interval '1 s' where sid like 'run-%'`)
      await curfew.db.query(
        `update session_ids set expires_at = now() - interval '1 s' where sid like 'run-%'`,
      )
      const before = new Date()
      for (const partition of await listSessionPartitions(curfew.db))
        await expireSessions(curfew.db, { partition, before, from: null, limit: 1_000 })
    }
    await expire(50)
    expect(await lifetimes()).toEqual([])
    await ended(150, 1)
    await hold(session('old', { hours: 900 }))
    await expire(150)
    await count()
    expect(await sids()).toEqual(['old'])
    await expire(1)
    await count()
    expect(await sids()).toEqual([])
    expect((await overlong()).items).toEqual([])
    await ended(1, 1)
    await count()
    expect(await sids()).toEqual(['old'])
  })

  test('are removed with their client', async () => {
    await ended(150, 1)
    await hold(session('old', { hours: 900 }))
    await count()
    expect((await curfew.call('DELETE', `/v1/issuers/${ISSUER}/relying-parties/shop`)).ok).toBe(true)
    expect(await sids()).toEqual([])
    await count()
    expect(await lifetimes()).toEqual([])
  })
})

test('clients are counted in turn, and one that was just counted is left out', async () => {
  for (const clientId of ['shop', 'wiki']) {
    await ended(150, 1, { clientId })
    await hold(session(`old-${clientId}`, { hours: 100, clientId }))
  }
  expect((await count(1, 60_000)).clients).toBe(1)
  expect((await count(1, 60_000)).clients).toBe(1)
  expect((await count(1, 60_000)).clients).toBe(0)
  expect(await sids()).toEqual(['old-shop', 'old-wiki'])
})

test('the metric counts overlong sessions by client, and drops a client without any', async () => {
  const metrics = createMetrics()
  const log = createLog({ service: 'test', level: 'silent' })
  const stopping = new AbortController().signal
  const jobs = createSessionJobs({ db: curfew.db, log, metrics, windowMs: 0, stopping })
  const lines = async () => {
    await curfew.db.query(`update session_lifetimes set counted_at = now() - interval '1 min'`)
    for (const job of jobs) await job.round()
    const { body } = await metrics.expose()
    return body.split('\n').filter((line) => line.startsWith('curfew_sessions_overlong{'))
  }
  expect(await lines()).toEqual([])
  await ended(150, 1)
  const old = [session('old', { hours: 100 }), session('older', { hours: 101 })]
  await hold(...old)
  expect(await lines()).toEqual([`curfew_sessions_overlong{issuer="${ISSUER}",client_id="shop"} 2`])
  await end(old, new Date())
  expect(await lines()).toEqual([])
})

describe('the notification of overlong sessions', () => {
  const notifications = async () =>
    (
      await curfew.db.query<{ data: Record<string, unknown> }>(
        "select data from notifications where type = 'session.overlong'",
      )
    ).rows.map(({ data }) => data)

  test('is written once for an issuer and window, and again only after a day without any', async () => {
    for (const clientId of ['shop', 'wiki']) {
      await ended(150, 1, { clientId })
      await hold(session(`old-${clientId}`, { hours: 100, clientId }))
    }
    expect((await count(1)).noticed).toHaveLength(1)
    expect((await count(1)).noticed).toHaveLength(1)
    const once = [{ issuer: ISSUER, iss: ISS, count: 2, client_ids: ['shop', 'wiki'] }]
    expect(await notifications()).toMatchObject(once)
    // The sessions end, and others become overlong at once.
    await curfew.db.query('delete from sessions')
    await count()
    await hold(session('another', { hours: 100 }))
    await count()
    expect(await notifications()).toMatchObject(once)
    await curfew.db.query(`delete from sessions; delete from notifications`)
    await curfew.db.query(`update session_lifetimes set notified_at = now() - interval '25 h'`)
    await count()
    await hold(session('another', { hours: 100 }))
    await count()
    expect(await notifications()).toMatchObject([{ count: 1, client_ids: ['shop'] }])
  })

  test('reaches a webhook that subscribes to its type', async () => {
    const hook = await openWebhookReceiver()
    onTestFinished(() => hook[Symbol.asyncDispose]())
    const wanted = { url: hook.url, types: ['session.overlong'], issuer: ISSUER }
    expect((await curfew.call('PUT', '/v1/webhooks/on-call', wanted)).ok).toBe(true)
    await ended(150, 1)
    await hold(session('old', { hours: 100 }))
    await curfew.startBookkeeper()
    const [notification] = await hook.told(1)
    expect(notification).toMatchObject({
      type: 'session.overlong',
      data: { issuer: ISSUER, count: 1, client_ids: ['shop'] },
    })
    await eventually(() => expect(curfew.lines.some((line) => line.includes('sessions.overlong'))).toBe(true))
  })
})
