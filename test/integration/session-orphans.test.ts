import { createSessionJobs } from '@curfew/bookkeeper'
import type { ClientId, Issuer, Session, Sid, Subject } from '@curfew/domain'
import { applySessions, countOrphans, noticeOrphans } from '@curfew/ledger'
import { createLog, createMetrics } from '@curfew/runtime'
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { type Curfew, eventually, ISS, ISSUER, openCurfew, storedId } from '../support/curfew.ts'
import { openWebhookReceiver } from '../support/webhook-receiver.ts'
import { pileUp, registerQuietly } from './dead-letters-support.ts'

// Goal: an operator is notified once of a session that should be over and is not, and finds the user, the reason and a fix.
// Method: the real API, statements and bookkeepers; a failed logout is marked as the session projector marks it.

const OTHER = 'https://other.example'
let curfew: Curfew
beforeEach(async () => {
  curfew = await openCurfew({
    workers: 0,
    notifying: { webhookScheduleMs: [1], deadLetterWindowMs: 1, breakerQuietMs: 60_000, outcomesLagMs: 0 },
  })
  await registerQuietly(curfew.call, ['shop', 'wiki'])
})
afterEach(() => curfew.stop())

const session = (sid: string, clientId: string, iss = ISS): Session => ({
  ...{ iss: iss as Issuer, sub: 'alice' as Subject, sid: sid as Sid },
  ...{ clientId: clientId as ClientId, device: 'phone' },
  ...{ startedStated: true, acceptedAt: new Date() },
  ...{ startedAt: new Date(Date.now() - 3_600_000), expiresAt: new Date(Date.now() + 3_600_000) },
})
const hold = (...starts: readonly Session[]) => applySessions(curfew.db, { ends: [], starts })

/** Marks a session as the projector does when its logout fails. */
async function orphan(sid: string, eventId: string, at = new Date()): Promise<void> {
  const { rowCount } = await curfew.db.query(
    'update sessions set logout_event_id = $2, orphaned_at = $3 where sid = $1',
    [sid, eventId, at],
  )
  expect(rowCount).toBeGreaterThan(0)
}

async function eventOf(deliveryId: string | undefined): Promise<string> {
  return (await curfew.client.getDelivery(deliveryId ?? '')).event_id
}

const notifications = async () =>
  (
    await curfew.db.query<{ issuer: string | null; data: Record<string, unknown> }>(
      "select issuer, data from notifications where type = 'session.orphaned' order by occurred_at",
    )
  ).rows
const notice = (limit = 100, windowMs = 60_000) => noticeOrphans(curfew.db, { limit, windowMs })

describe('the list of orphans', () => {
  test('shows the user, the time and the reason of every orphan, with links', async () => {
    const ids = await pileUp(curfew.db, { clientId: 'shop', count: 4, reason: 'refused' })
    const [refused, lapsed, replayed, others] = await Promise.all(ids.map(eventOf))
    const events = [refused, lapsed, replayed, others]
    await curfew.db.query("update deliveries set state = 'lapsed', dead_letter_reason = null where id = $1", [
      ids[1],
    ])
    await curfew.db.query(
      `update deliveries set state = 'pending', dead_letter_reason = null, settled_at = null, due_at = now() where id = $1`,
      [ids[2]],
    )
    const deleted = '01938c2e-0000-7000-8000-000000000001'
    // The last event has a delivery only for shop; wiki has a session too.
    const names = ['refused', 'lapsed', 'replayed']
    await hold(
      ...names.map((name) => session(name, 'shop')),
      session('never', 'wiki'),
      session('old', 'shop'),
    )
    await hold(session('alive', 'shop'))
    for (const [n, name] of [...names, 'never', 'old'].entries()) {
      const event = events[n]
      const id = event === undefined ? deleted : storedId(event)
      await orphan(name, id, new Date(Date.now() - n * 60_000))
    }

    const { items, next_cursor } = await curfew.client.listOrphans()
    expect(next_cursor).toBeNull()
    expect(items.map(({ sid, client_id, why }) => [sid, client_id, why])).toEqual([
      ['refused', 'shop', 'refused'],
      ['lapsed', 'shop', 'lapsed'],
      ['replayed', 'shop', 'under_way'],
      ['never', 'wiki', 'never_planned'],
      ['old', 'shop', null],
    ])
    expect(items[0]).toMatchObject({
      issuer: ISSUER,
      iss: ISS,
      sub: 'alice',
      device: 'phone',
      event_id: refused,
    })
    expect(items[0]?.links).toEqual({
      event: `/v1/logout-events/${refused}?issuer=main`,
      delivery: `/v1/deliveries/${ids[0]}`,
    })
    expect(items[3]?.links.delivery).toBeNull()
    const { items: held } = await curfew.client.listSessions({ iss: ISS, sid: 'refused' })
    expect(held[0]?.logout).toMatchObject({ event_id: refused, orphaned_at: items[0]?.orphaned_at })
  })

  test('has pages and filters by issuer and client, and includes unregistered issuers', async () => {
    const event = '01938c2e-0000-7000-8000-000000000002'
    const at = new Date()
    const sessions = Array.from({ length: 7 }, (_, n) => session(`s${n}`, n % 2 === 0 ? 'shop' : 'wiki'))
    await hold(...sessions, session('x', 'shop', OTHER))
    // All have the same time, as when one batch marks them.
    for (const { sid } of sessions) await orphan(sid, event, at)
    await orphan('x', event, at)
    const seen: string[] = []
    for (let cursor: string | null = ''; cursor !== null; ) {
      const page = await curfew.client.listOrphans({ limit: 2, ...(cursor !== '' && { cursor }) })
      seen.push(...page.items.map(({ sid }) => sid))
      cursor = page.next_cursor
    }
    expect(seen.toSorted()).toEqual(['s0', 's1', 's2', 's3', 's4', 's5', 's6', 'x'])
    const sids = async (filter: object) =>
      (await curfew.client.listOrphans(filter)).items.map(({ sid }) => sid).toSorted()
    expect(await sids({ issuer: ISSUER, client_id: 'wiki' })).toEqual(['s1', 's3', 's5'])
    expect(await sids({ issuer: ISSUER, client_id: 'shop' })).toEqual(['s0', 's2', 's4', 's6'])
    const { items } = await curfew.client.listOrphans({ client_id: 'shop' })
    expect(items.find(({ iss }) => iss === OTHER)?.issuer).toBeNull()
    expect(await countOrphans(curfew.db)).toEqual(
      new Map([
        ['main', 7],
        [OTHER, 1],
      ]),
    )
  })

  test('does not include an expired session', async () => {
    await hold(session('s', 'shop'))
    await orphan('s', '01938c2e-0000-7000-8000-000000000003')
    await curfew.db.query("update sessions set expires_at = now() - interval '1 second'")
    expect((await curfew.client.listOrphans()).items).toEqual([])
    expect((await countOrphans(curfew.db)).size).toBe(0)
  })

  test.each(['cursor=abc', `cursor=${Buffer.from('[1]').toString('base64url')}`, 'limit=0', 'client=x'])(
    'answers 400 to %s',
    async (query) => {
      expect((await curfew.call('GET', `/v1/sessions/orphans?${query}`)).status).toBe(400)
    },
  )

  test('answers 404 for an unregistered issuer, and not an empty list', async () => {
    const response = await curfew.call('GET', '/v1/sessions/orphans?issuer=mian')
    expect([response.status, await response.json()]).toEqual([
      404,
      expect.objectContaining({ detail: 'No issuer is registered as mian.' }),
    ])
  })
})

test('the metric counts orphans by issuer, and drops an issuer without orphans', async () => {
  const metrics = createMetrics()
  const log = createLog({ service: 'test', level: 'silent' })
  const stopping = new AbortController().signal
  const jobs = createSessionJobs({ db: curfew.db, log, metrics, windowMs: 0, stopping })
  const count = async () => {
    for (const job of jobs) await job.round()
    const lines = (await metrics.expose()).body.split('\n')
    return lines.filter((line) => line.startsWith('curfew_sessions_orphaned{'))
  }
  expect(await count()).toEqual([])
  await hold(session('s1', 'shop'), session('s2', 'wiki'))
  for (const sid of ['s1', 's2']) await orphan(sid, '01938c2e-0000-7000-8000-000000000005')
  expect(await count()).toEqual([`curfew_sessions_orphaned{issuer="${ISSUER}"} 2`])
  await curfew.db.query('delete from sessions')
  expect(await count()).toEqual([])
})

describe('the notification of orphans', () => {
  const event = '01938c2e-0000-7000-8000-000000000004'

  test('is sent once for every issuer and window, with a count and some clients', async () => {
    const clients = Array.from({ length: 8 }, (_, n) => `rp-${n}`)
    await hold(...clients.map((client) => session(client, client)), session('x', 'shop', OTHER))
    for (const sid of [...clients.slice(0, 6), 'x']) await orphan(sid, event)
    expect(await notice()).toBe(7)
    for (const sid of clients.slice(6)) await orphan(sid, event)
    expect(await notice()).toBe(2)
    expect(await notice()).toBe(0)
    const sent = await notifications()
    expect(sent).toHaveLength(2)
    expect(sent.find(({ issuer }) => issuer === ISSUER)?.data).toMatchObject({
      ...{ issuer: ISSUER, iss: ISS, count: 8 },
      client_ids: clients.slice(0, 5),
    })
    expect(sent.find(({ issuer }) => issuer === null)?.data).toMatchObject({ iss: OTHER, count: 1 })
  })

  test('is sent once for an orphan, and again if the session is renewed and orphaned again', async () => {
    await hold(session('s', 'shop'))
    await orphan('s', event)
    expect(await notice(100, 0)).toBe(1)
    await hold(session('s', 'shop'))
    expect(await notice(100, 0)).toBe(0)
    await orphan('s', event, new Date(Date.now() + 1_000))
    expect(await notice(100, 0)).toBe(1)
    expect(await notifications()).toHaveLength(2)
  })

  test('counts all orphans, even if there are more than one round takes', async () => {
    const sids = Array.from({ length: 10 }, (_, n) => `s${n}`)
    await hold(...sids.map((sid) => session(sid, 'shop')))
    for (const sid of sids) await orphan(sid, event)
    expect([await notice(4), await notice(4), await notice(4), await notice(4)]).toEqual([4, 4, 2, 0])
    expect((await notifications()).map(({ data }) => data.count)).toEqual([10])
  })

  test('reaches a webhook that subscribes to its type', async () => {
    const hook = await openWebhookReceiver()
    onTestFinished(() => hook[Symbol.asyncDispose]())
    const wanted = { url: hook.url, types: ['session.orphaned'], issuer: ISSUER }
    expect((await curfew.call('PUT', '/v1/webhooks/on-call', wanted)).ok).toBe(true)
    await hold(session('s', 'shop'))
    await orphan('s', event)
    await curfew.startBookkeeper()
    const [notification] = await hook.told(1)
    expect(notification).toMatchObject({
      type: 'session.orphaned',
      data: { issuer: ISSUER, count: 1, client_ids: ['shop'] },
    })
    await eventually(() => expect(curfew.lines.some((line) => line.includes('sessions.orphaned'))).toBe(true))
  })
})
