import { hash, randomUUID } from 'node:crypto'
import { createQuarantineJobs } from '@curfew/bookkeeper'
import { encodeLogoutEvent, logoutEventOf } from '@curfew/contract'
import {
  type ClientId,
  type EventLog,
  EventLogUnavailableError,
  type Issuer,
  type IssuerName,
  type LogRecord,
  type Quarantined,
} from '@curfew/domain'
import { noticeQuarantined, quarantine } from '@curfew/ledger'
import { createLog, createMetrics } from '@curfew/runtime'
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { type Curfew, eventually, ISS, ISSUER, openCurfew } from '../support/curfew.ts'
import { openRelyingParty, type RelyingParty } from '../support/relying-party.ts'
import { openWebhookReceiver } from '../support/webhook-receiver.ts'

// Goal: operators learn of an accepted logout that cannot be planned, and decide what happens to it. No credential sees the records
// of another issuer.
// Method: the real services and statements; records that no release of Curfew would write go directly into the event log.

const OTHER = 'https://other.example'
let curfew: Curfew
let shop: RelyingParty
beforeAll(async () => {
  curfew = await openCurfew({
    notifying: { webhookScheduleMs: [1], deadLetterWindowMs: 1, breakerQuietMs: 60_000, outcomesLagMs: 0 },
  })
  shop = await openRelyingParty(curfew, { clientId: 'shop' })
  await curfew.client.putIssuer('other', { iss: OTHER })
})
afterAll(async () => {
  await curfew.stop()
  await shop.close()
})
beforeEach(() =>
  curfew.db.query(
    'truncate quarantined_records, events, deliveries, attempts, notifications, webhooks, audit cascade',
  ),
)

/** The record of an accepted logout. */
function accepted(
  event: { id?: string; iss?: string; sub?: string; reason?: 'user' | 'admin' } = {},
): LogRecord {
  const now = new Date()
  const given = {
    ...{ id: randomUUID(), iss: ISS, sub: randomUUID(), scope: 'subject' as const },
    lane: 'interactive' as const,
    ...event,
  }
  const read = logoutEventOf(given, { occurredAt: now, acceptedAt: now }, (text) => hash('sha256', text))
  if ('unreadable' in read) throw new Error(read.unreadable)
  return encodeLogoutEvent(read, `00-${'1'.repeat(32)}-${'1'.repeat(16)}-01`)
}

let positions = 0
/** Puts records into quarantine without an event log. */
async function hold(record: LogRecord = accepted(), more: Partial<Quarantined> = {}): Promise<string> {
  const position = `0/${++positions}`
  await quarantine(curfew.db, [
    { record: { ...record, position }, kind: 'refused', reason: 'a test', ...more },
  ])
  const { rows } = await curfew.db.query<{ id: number }>(
    'select id from quarantined_records where log_position = $1',
    [position],
  )
  return String(rows[0]?.id)
}

const idOf = (record: LogRecord) => record.headers.ce_id ?? ''

/** Runs one round of every quarantine job. @returns the metrics. */
async function round(eventLog: Pick<EventLog, 'append'> = curfew.eventLog): Promise<string> {
  const metrics = createMetrics()
  const log = createLog({ service: 'test', level: 'silent' })
  const jobs = createQuarantineJobs({ db: curfew.db, eventLog, log, metrics, windowMs: 60_000 })
  for (const job of jobs) await job.round()
  return (await metrics.expose()).body
}

const only = async () => {
  const { items } = await curfew.client.listQuarantined()
  expect(items).toHaveLength(1)
  const [item] = items
  if (item === undefined) throw new Error('expected a record in quarantine')
  return item
}

describe('a logout that is accepted with the id of another', () => {
  test('is listed and notified, returns to quarantine after a requeue, and leaves it by a dismissal', async () => {
    await using hook = await openWebhookReceiver()
    await curfew.call('PUT', '/v1/webhooks/on-call', {
      url: hook.url,
      types: ['record.quarantined'],
      issuer: ISSUER,
    })
    const first = accepted({ sub: 'alice' })
    const second = accepted({ sub: 'bob', id: idOf(first) })
    await curfew.eventLog.append([first])
    await curfew.client.getLogoutEvent(idOf(first), { wait: 20 })
    await curfew.eventLog.append([second])
    const item = await eventually(only)
    expect(item).toMatchObject({
      issuer: ISSUER,
      iss: ISS,
      event_id: idOf(first),
      lane: 'interactive',
      kind: 'conflict',
      reason: `event ${idOf(first)} of ${ISS} was already accepted with different content`,
      fix: expect.stringContaining('A requeued record comes back'),
      state: 'waiting',
      cut_short: false,
      decided_by: null,
    })
    const content = await curfew.client.getQuarantined(item.id)
    expect(JSON.parse(content.value)).toMatchObject({ sub: 'bob' })
    expect(content.headers).toEqual(second.headers)
    expect(content.key).toBe(second.key)

    const bookkeeper = await curfew.startBookkeeper()
    onTestFinished(() => bookkeeper.stop())
    const [notification] = await hook.told(1)
    expect(notification).toMatchObject({
      type: 'record.quarantined',
      data: { issuer: ISSUER, iss: ISS, kind: 'conflict', count: 1, record_ids: [item.id] },
    })

    const asked = await curfew.client.requeueQuarantined(item.id)
    expect(asked).toMatchObject({ state: 'requeue_requested', decided_by: 'admin' })
    const again = await eventually(async () => {
      const { items } = await curfew.client.listQuarantined({ state: 'waiting' })
      expect(items).toHaveLength(1)
      return items[0]
    })
    expect(again).toMatchObject({ kind: 'conflict', event_id: idOf(first) })
    expect(again?.id).not.toBe(item.id)
    await eventually(async () => expect((await curfew.client.getQuarantined(item.id)).state).toBe('requeued'))
    expect(await curfew.client.dismissQuarantined(again?.id ?? '')).toMatchObject({ state: 'dismissed' })
    expect((await curfew.client.listQuarantined({ state: 'waiting' })).items).toEqual([])
    const audit = await (await curfew.call('GET', '/v1/audit')).json()
    expect(audit).toMatchObject({
      items: expect.arrayContaining([
        expect.objectContaining({
          action: 'quarantine.requeue_requested',
          object: `/v1/quarantine/${item.id}`,
          detail: { issuer: ISSUER, iss: ISS, lane: 'interactive', kind: 'conflict', event_id: idOf(first) },
        }),
        expect.objectContaining({ action: 'quarantine.dismissed', object: `/v1/quarantine/${again?.id}` }),
      ]),
    })
  })
})

describe('a requeue', () => {
  test('is planned and delivered like any accepted logout', async () => {
    const record = accepted()
    const id = await hold(record)
    await curfew.client.requeueQuarantined(id)
    const before = shop.received.length
    await round()
    expect(await curfew.client.getLogoutEvent(idOf(record), { wait: 20 })).toMatchObject({ acknowledged: 1 })
    expect(shop.received).toHaveLength(before + 1)
    expect((await only()).state).toBe('requeued')
  })

  test('is one logout, even if it is requested twice and the bookkeeper is killed between append and update', async () => {
    const record = accepted()
    const id = await hold(record)
    await curfew.client.requeueQuarantined(id)
    const before = shop.received.length
    // The record is appended, but the bookkeeper is killed before it updates the state.
    await round({
      async append(records) {
        await curfew.eventLog.append(records)
        throw new EventLogUnavailableError('the answer is lost')
      },
    })
    expect((await only()).state).toBe('requeue_requested')
    await round()
    expect((await only()).state).toBe('requeued')
    expect(await curfew.client.requeueQuarantined(id)).toMatchObject({ state: 'requeued' })
    await round()
    expect(await curfew.client.getLogoutEvent(idOf(record), { wait: 20 })).toMatchObject({ acknowledged: 1 })
    await eventually(async () => {
      const { rows } = await curfew.db.query('select from log_records')
      expect(rows).toEqual([])
    })
    expect(shop.received).toHaveLength(before + 1)
    expect((await curfew.client.listQuarantined()).items).toHaveLength(1)
    const { items } = (await (await curfew.call('GET', '/v1/audit')).json()) as {
      items: { action: string }[]
    }
    expect(items.filter(({ action }) => action.startsWith('quarantine.'))).toHaveLength(1)
  })

  test('is carried out by a bookkeeper that starts after all others are killed', async () => {
    const record = accepted()
    const id = await hold(record)
    const killed = await curfew.startBookkeeper()
    await killed.kill()
    await curfew.client.requeueQuarantined(id)
    const bookkeeper = await curfew.startBookkeeper()
    onTestFinished(() => bookkeeper.stop())
    expect(await curfew.client.getLogoutEvent(idOf(record), { wait: 20 })).toMatchObject({ acknowledged: 1 })
  })

  test('that the event log refuses waits for a decision again, and delays no other', async () => {
    const bad = await hold({ ...accepted(), key: 'a\0key' })
    const good = await hold()
    for (const id of [bad, good]) await curfew.client.requeueQuarantined(id)
    await round()
    expect(await curfew.client.getQuarantined(good)).toMatchObject({ state: 'requeued' })
    expect(await curfew.client.getQuarantined(bad)).toMatchObject({
      state: 'waiting',
      decided_by: null,
      requeue_error: expect.stringContaining('0x00'),
    })
  })

  test('goes to the end of the queue while the event log does not accept it', async () => {
    const ids = [await hold(), await hold()]
    for (const id of ids) await curfew.client.requeueQuarantined(id)
    const first = await curfew.client.getQuarantined(ids[0] ?? '')
    await round({
      async append([record]) {
        if (record?.key === first.key) throw new EventLogUnavailableError('not this one')
      },
    })
    expect((await curfew.client.listQuarantined({ state: 'requeue_requested' })).items).toEqual([
      expect.objectContaining({ id: ids[0], decided_by: 'admin' }),
    ])
  })

  test('of a truncated record is refused with the reason', async () => {
    const id = await hold({ ...accepted(), value: Buffer.alloc(70_000, 'x') })
    expect(await curfew.client.getQuarantined(id)).toMatchObject({
      cut_short: true,
      value_bytes: 70_000,
      kept_bytes: 65_536,
    })
    await expect(curfew.client.requeueQuarantined(id)).rejects.toMatchObject({
      status: 409,
      message: expect.stringContaining('cannot be requeued'),
    })
    expect(await curfew.client.dismissQuarantined(id)).toMatchObject({ state: 'dismissed' })
    await expect(curfew.client.requeueQuarantined(id)).rejects.toMatchObject({ status: 409 })
  })
})

describe('a decision', () => {
  test('to dismiss a record can be repeated, and reversed by a requeue, which is final', async () => {
    const id = await hold()
    expect(await curfew.client.dismissQuarantined(id)).toMatchObject({ state: 'dismissed' })
    const dismissed = await curfew.client.dismissQuarantined(id)
    expect(dismissed).toMatchObject({ state: 'dismissed' })
    expect(await curfew.client.requeueQuarantined(id)).toMatchObject({ state: 'requeue_requested' })
    await expect(curfew.client.dismissQuarantined(id)).rejects.toMatchObject({ status: 409 })
  })
})

describe('GET /v1/logout-events/{id}', () => {
  const get = (id: string, key = curfew.adminKey, path = '') =>
    curfew.call('GET', `/v1/logout-events/${id}${path}`, undefined, { authorization: `Bearer ${key}` })
  const iss = ISS as Issuer
  const issuer = ISSUER as IssuerName

  test('reports an event in quarantine only to its own issuer, and only until a decision', async () => {
    const record = accepted()
    const id = await hold(record)
    const own = curfew.keyBoundTo({ kind: 'issuer', issuer, iss }, 'events:read')
    const other = { kind: 'issuer', issuer: 'other' as IssuerName, iss: OTHER as Issuer } as const
    const clients = { kind: 'clients', issuer, iss, clients: new Set(['shop' as ClientId]) } as const
    for (const [key, path] of [
      [curfew.adminKey, ''],
      [own, ''],
      [own, '/summary'],
    ] as const) {
      const response = await get(idOf(record), key, path)
      expect(response.status).toBe(409)
      expect(await response.json()).toMatchObject({
        title: 'In quarantine',
        detail: expect.stringContaining(`a test An operator must requeue or dismiss /v1/quarantine/${id}.`),
      })
    }
    const unknown = await (await get(randomUUID(), curfew.keyBoundTo(other, 'events:read'))).json()
    for (const access of [other, clients]) {
      const response = await get(idOf(record), curfew.keyBoundTo(access, 'events:read'))
      expect(response.status).toBe(404)
      expect(response.headers.get('retry-after')).toBe('1')
      expect(Object(await response.json()).title).toBe(Object(unknown).title)
    }
    await curfew.client.dismissQuarantined(id)
    expect((await get(idOf(record), own)).status).toBe(404)
  })
})

describe('the list of quarantined records', () => {
  test('applies every filter, the latest record first, in pages', async () => {
    const mine = await hold()
    const others = await hold(accepted({ iss: OTHER }), { kind: 'conflict' })
    const unowned = await hold(
      { lane: 'bulk', key: 'k', value: Buffer.from('no JSON'), headers: {} },
      { kind: 'unreadable' },
    )
    await curfew.client.dismissQuarantined(mine)
    const ids = async (filter: object) =>
      (await curfew.client.listQuarantined(filter)).items.map(({ id }) => id)
    expect(await ids({})).toEqual([unowned, others, mine])
    expect(await ids({ issuer: ISSUER })).toEqual([mine])
    expect(await ids({ issuer: 'none' })).toEqual([])
    expect(await ids({ lane: 'bulk' })).toEqual([unowned])
    expect(await ids({ kind: 'conflict' })).toEqual([others])
    expect(await ids({ state: 'waiting' })).toEqual([unowned, others])
    const page = await curfew.client.listQuarantined({ limit: 2 })
    expect(page.items.map(({ id }) => id)).toEqual([unowned, others])
    expect(await ids({ limit: 2, cursor: page.next_cursor ?? '' })).toEqual([mine])
    for (const query of ['kind=other', 'state=gone', 'lane=x', 'cursor=eHg', 'surprise=1'])
      expect([query, (await curfew.call('GET', `/v1/quarantine?${query}`)).status]).toEqual([query, 400])
  })
})

describe('a credential for quarantined records', () => {
  const call = (key: string, method: string, path: string) =>
    curfew.call(method, path, method === 'POST' ? {} : undefined, { authorization: `Bearer ${key}` })
  const issuer = ISSUER as IssuerName
  const iss = ISS as Issuer

  test('reads with one scope and decides with another', async () => {
    const id = await hold()
    const reader = curfew.keyFor('deadletters:read')
    const replayer = curfew.keyFor('deadletters:replay')
    for (const path of ['/v1/quarantine', `/v1/quarantine/${id}`]) {
      expect((await call(reader, 'GET', path)).status).toBe(200)
      expect((await call(replayer, 'GET', path)).status).toBe(403)
    }
    expect((await call(reader, 'POST', `/v1/quarantine/${id}/requeue`)).status).toBe(403)
    expect((await call(reader, 'DELETE', `/v1/quarantine/${id}`)).status).toBe(403)
    expect((await call(replayer, 'POST', `/v1/quarantine/${id}/requeue`)).status).toBe(202)
  })

  test('that is bound to an issuer sees only the records of that issuer', async () => {
    const mine = await hold()
    const others = await hold(accepted({ iss: OTHER }))
    const unowned = await hold({ ...accepted(), value: Buffer.from(JSON.stringify({ iss: OTHER })) })
    const key = curfew.keyBoundTo({ kind: 'issuer', issuer, iss }, 'deadletters:read', 'deadletters:replay')
    const list = async (query: string) => {
      const { items } = (await (await call(key, 'GET', `/v1/quarantine${query}`)).json()) as {
        items: { id: string }[]
      }
      return items.map(({ id }) => id)
    }
    expect(await list('')).toEqual([mine])
    expect(await list('?issuer=other')).toEqual([])
    expect((await call(key, 'GET', `/v1/quarantine/${mine}`)).status).toBe(200)
    for (const id of [others, unowned, '999999', 'x', '1e3', '-1', '0', '9'.repeat(40)]) {
      for (const [method, path] of [
        ['GET', `/v1/quarantine/${id}`],
        ['POST', `/v1/quarantine/${id}/requeue`],
        ['DELETE', `/v1/quarantine/${id}`],
      ] as const) {
        const response = await call(key, method, path)
        expect([id, method, response.status]).toEqual([id, method, 404])
        expect(await response.json()).toMatchObject({ detail: `No quarantined record has the id ${id}.` })
      }
    }
    const { rows } = await curfew.db.query("select from quarantined_records where state <> 'waiting'")
    expect(rows).toEqual([])
    expect((await call(key, 'DELETE', `/v1/quarantine/${mine}`)).status).toBe(200)
  })

  test('that is bound to clients sees no records', async () => {
    const id = await hold()
    const access = { kind: 'clients', issuer, iss, clients: new Set(['shop' as ClientId]) } as const
    const key = curfew.keyBoundTo(access, 'deadletters:read', 'deadletters:replay')
    expect(await (await call(key, 'GET', '/v1/quarantine')).json()).toEqual({ items: [], next_cursor: null })
    expect((await call(key, 'GET', `/v1/quarantine/${id}`)).status).toBe(404)
    expect((await call(key, 'DELETE', `/v1/quarantine/${id}`)).status).toBe(404)
  })
})

describe('a notification of quarantined records', () => {
  const notifications = async () => {
    const { rows } = await curfew.db.query<{ issuer: string | null; data: Record<string, unknown> }>(
      "select issuer, data from notifications where type = 'record.quarantined' order by data ->> 'kind', issuer",
    )
    return rows
  }

  test('counts the records of one issuer and kind, including those that arrive before it is sent', async () => {
    const ids: string[] = []
    for (let n = 0; n < 7; n++) ids.push(await hold())
    await hold(accepted({ iss: OTHER }))
    await hold(
      { ...accepted(), lane: 'sessions', headers: {}, value: Buffer.of(0), key: '' },
      { kind: 'unreadable' },
    )
    const metrics = await round()
    expect(metrics).toContain('curfew_records_quarantined_total{lane="interactive"} 8')
    expect(metrics).toContain('curfew_records_quarantined_total{lane="sessions"} 1')
    expect(metrics).toContain('curfew_quarantined_records{lane="interactive"} 8')
    expect(metrics).toContain('curfew_quarantined_records{lane="sessions"} 1')
    ids.push(await hold())
    expect(await noticeQuarantined(curfew.db, { limit: 10, windowMs: 60_000 })).toEqual(
      new Map([['interactive', 1]]),
    )
    expect(await noticeQuarantined(curfew.db, { limit: 10, windowMs: 60_000 })).toEqual(new Map())
    const data = {
      count: 1,
      oldest: expect.any(String),
      newest: expect.any(String),
      record_ids: [expect.any(String)],
    }
    expect(await notifications()).toEqual([
      {
        issuer: ISSUER,
        data: { ...data, issuer: ISSUER, iss: ISS, kind: 'refused', count: 8, record_ids: ids.slice(0, 5) },
      },
      { issuer: 'other', data: { ...data, issuer: 'other', iss: OTHER, kind: 'refused' } },
      { issuer: null, data: { ...data, issuer: null, iss: null, kind: 'unreadable' } },
    ])
  })
})

describe('quarantine', () => {
  test('stores a record once, however often its batch is committed', async () => {
    const record = { ...accepted(), position: '3/14' }
    const held = { record, kind: 'refused', reason: 'a test' } as const
    await quarantine(curfew.db, [held, held])
    await quarantine(curfew.db, [held])
    await only()
    // The positions of a topic that was created again start again at 0.
    await quarantine(curfew.db, [{ ...held, record: { ...accepted(), position: '3/14' } }])
    expect((await curfew.client.listQuarantined()).items).toHaveLength(2)
  })

  test('stores the position and digest of a record whose content PostgreSQL refuses', async () => {
    await curfew.db.query(
      'alter table quarantined_records add constraint test check (octet_length(value) < 10)',
    )
    onTestFinished(async () => {
      await curfew.db.query('alter table quarantined_records drop constraint test')
    })
    const small = {
      lane: 'interactive',
      key: '',
      headers: {},
      position: 'small',
      value: Buffer.from('small'),
    } as const
    await quarantine(curfew.db, [
      { record: small, kind: 'unreadable', reason: 'a test.' },
      { record: { ...accepted(), position: 'large' }, kind: 'refused', reason: 'a test.' },
    ])
    const { items } = await curfew.client.listQuarantined()
    expect(items).toEqual([
      expect.objectContaining({
        position: 'large',
        cut_short: true,
        iss: null,
        reason: expect.stringMatching(/^a test\. Its content could not be stored: .*constraint/),
      }),
      expect.objectContaining({ position: 'small', cut_short: false }),
    ])
    expect(items[0]?.value_bytes).toBeGreaterThan(100)
  })
})
