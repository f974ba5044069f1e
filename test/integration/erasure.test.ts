import { randomBytes, randomUUID } from 'node:crypto'
import type { Erasure } from '@curfew/contract'
import { uuidV7 } from '@curfew/domain'
import {
  claimErasure,
  type Database,
  eraseSubject,
  failErasure,
  quarantine as quarantineRecords,
} from '@curfew/ledger'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, ISSUER, openCurfew, storedId } from '../support/curfew.ts'
import { openRelyingParty } from '../support/relying-party.ts'

// Goal: an erasure removes every trace of one subject and of no other, and loses no logout.
// Method: real services, and a search through every column of every table, so that new tables are covered too.

const OTHER_ISS = 'https://other.example'
const SUB = 'alice.doe@mail.example'
const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS

let curfew: Curfew
let clock: Date | null
beforeEach(async () => {
  clock = null
  curfew = await openCurfew({ now: () => clock ?? new Date() })
  await curfew.client.putIssuer('other', { iss: OTHER_ISS })
})
afterEach(() => curfew.stop())

/** Names the tables in which some row contains `text`, also inside JSON, arrays and bytes. */
async function tracesOf(db: Database, text: string): Promise<readonly string[]> {
  const { rows: tables } = await db.query<{ name: string }>(
    `select relname as name from pg_class
      where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and not relispartition order by 1`,
  )
  expect(tables.length).toBeGreaterThan(20)
  const found: string[] = []
  for (const { name } of tables) {
    const { rows } = await db.query(
      `select from ${name} t where strpos(to_jsonb(t)::text, $1) > 0 or strpos(to_jsonb(t)::text, $2) > 0 limit 1`,
      [text, Buffer.from(text).toString('hex')],
    )
    if (rows.length > 0) found.push(name)
  }
  return found
}

async function settled(event: Parameters<Curfew['client']['postLogoutEvent']>[0]) {
  const { id } = await curfew.client.postLogoutEvent(event)
  const status = await curfew.client.getLogoutEvent(id, { wait: 20 })
  expect(status.status).toBe('settled')
  return status
}

/** Waits until every journal entry is projected. */
const projected = () =>
  eventually(async () => expect((await curfew.db.query('select from journal')).rows).toEqual([]))

/** Inserts sessions into the index as it keeps them. They begin after every logout so far, whatever the clock skew. */
async function openSessions(
  iss: string,
  sessions: readonly { readonly sub: string; readonly sid: string; readonly expiresInS: number }[],
): Promise<void> {
  await curfew.db.query('insert into session_issuers (iss) values ($1) on conflict (iss) do nothing', [iss])
  for (const { sub, sid, expiresInS } of sessions) {
    const values = [iss, sub, sid, expiresInS]
    await curfew.db.query(
      `insert into sessions (issuer, sub, sid, client_id, device, started_at, expires_at)
       select id, $2, $3, 'mail', 'phone of ' || $2, now() + interval '400 seconds', now() + $4::int * interval '1 second'
         from session_issuers where iss = $1`,
      values,
    )
    await curfew.db.query(
      `insert into session_ids (issuer, sid, client_id, sub, started_at, expires_at)
       select id, $3, 'mail', $2, now() + interval '400 seconds', now() + $4::int * interval '1 second'
         from session_issuers where iss = $1`,
      values,
    )
  }
}

/** Puts a record in quarantine. */
async function quarantine(value: string, key = 'a key of another producer'): Promise<void> {
  const record = {
    lane: 'interactive',
    position: randomUUID(),
    key,
    value: Buffer.from(value),
    headers: {},
  } as const
  await quarantineRecords(curfew.db, [{ record, kind: 'unreadable', reason: 'a test' }])
}

const erase = (sub = SUB, options: { abandon?: boolean } = {}) =>
  curfew.client.eraseSubject(ISSUER, sub, options)

const NOTHING_LEFT = { events: 0, deliveries: 0, dead_letters: 0, recent: 0, sessions: 0, quarantined: 0 }

test('an erasure removes every trace of a subject, keeps all others, and forgets the name itself after a day', async () => {
  await using mail = await openRelyingParty(curfew, {
    clientId: 'mail',
    curfew: { retry_schedule_ms: [1_000] },
  })
  await using shop = await openRelyingParty(curfew, {
    clientId: 'shop',
    issuer: 'other',
    iss: OTHER_ISS,
  })
  const own = [
    await settled({ iss: ISS, sub: SUB, email: 'alice@example.com' }),
    await settled({ iss: ISS, sub: SUB, sid: 'sid-of-alice-1' }),
    // Only the session index and another event know the subject of these two.
    await settled({ iss: ISS, sid: 'sid-of-alice-2' }),
    await settled({ iss: ISS, sid: 'sid-of-alice-1' }),
  ]
  mail.behave((number) =>
    number % 2 === 1 ? { status: 503, body: JSON.stringify({ error_description: `no ${SUB}` }) } : null,
  )
  own.push(await settled({ iss: ISS, sub: SUB, reason: 'deletion' }))
  mail.behave(null)
  await openSessions(ISS, [
    { sub: SUB, sid: 'sid-of-alice-2', expiresInS: 1_800 },
    { sub: `${SUB}.au`, sid: 'sid-of-another', expiresInS: 7_200 },
  ])
  await openSessions(OTHER_ISS, [{ sub: SUB, sid: 'sid-of-her-namesake', expiresInS: 7_200 }])
  const others = [
    await settled({ iss: ISS, sub: `${SUB}.au`, sid: 'sid-of-another' }),
    await settled({ iss: ISS, sub: 'alice.doe' }),
    await settled({ iss: OTHER_ISS, sub: SUB, sid: 'sid-of-her-namesake' }),
  ]
  expect(shop.received).toHaveLength(1)

  // Projections that name subjects, such as receipts, follow the journal and come first. And a session that one of these logouts
  // ends may still be posted late.
  const first = await erase()
  expect(first).toMatchObject({
    status: 'waiting',
    waiting: { ...NOTHING_LEFT, events: own.length, recent: own.length, sessions: 1 },
  })
  await using bookkeeper = { [Symbol.asyncDispose]: (await curfew.startBookkeeper()).stop }
  expect(bookkeeper).toBeDefined()
  await projected()
  expect((await erase()).waiting).toEqual(first.waiting)
  clock = new Date(Date.now() + HOUR_MS)
  await erase()
  const done = await eventually(async () => {
    const erasure = await curfew.client.getErasure(first.id)
    expect(erasure.status).toBe('completed')
    return erasure
  })
  expect(done).toMatchObject({ waiting: NOTHING_LEFT, closed_at: null })
  expect(done.erased).toMatchObject({
    events: 5,
    deliveries: 5,
    attempts: 1,
    sessions: 1,
    receipts: 5,
    quarantined: 0,
  })
  for (const sid of ['sid-of-alice-1', 'sid-of-alice-2'])
    expect(await tracesOf(curfew.db, sid)).toEqual(['erasures'])

  expect(own[0]?.email).toBe('alice@example.com')
  for (const { id } of own) {
    const event = await curfew.client.getLogoutEvent(id)
    expect(event).toMatchObject({
      sub: null,
      email: null,
      sid: null,
      status: 'settled',
      acknowledged: 1,
      total: 1,
    })
    expect(event.erased_at).toEqual(expect.any(String))
    const [{ id: deliveryId = '' } = {}] = event.deliveries
    const delivery = await curfew.client.getDelivery(deliveryId)
    expect(delivery).toMatchObject({ sid: null, state: 'acknowledged', erased_at: event.erased_at })
  }
  for (const before of others) {
    const { sub, sid, erased_at } = await curfew.client.getLogoutEvent(before.id)
    expect({ sub, sid, erased_at }).toEqual({ sub: before.sub, sid: before.sid, erased_at: null })
  }
  const { rows } = await curfew.db.query(
    'select sid from sessions union all select sid from session_ids order by 1',
  )
  expect(rows).toEqual(
    ['sid-of-another', 'sid-of-another', 'sid-of-her-namesake', 'sid-of-her-namesake'].map((sid) => ({
      sid,
    })),
  )

  // The request keeps the subject as long as traces of it may still arrive. The same name at the other issuer also remains.
  clock = new Date(Date.now() + DAY_MS + HOUR_MS)
  await curfew.db.query('update erasures set next_look_at = now() where closed_at is null')
  await eventually(async () =>
    expect((await curfew.client.getErasure(first.id)).closed_at).toEqual(expect.any(String)),
  )
  const receipts = await curfew.db.query('delete from receipts where payload is not null returning 1')
  expect(receipts.rows).toHaveLength(others.length)
  await curfew.db.query('delete from events where iss = $1', [OTHER_ISS])
  await curfew.db.query(`delete from sessions where sid = 'sid-of-her-namesake'`)
  await curfew.db.query(`delete from session_ids where sid = 'sid-of-her-namesake'`)
  await curfew.db.query(`delete from events where sub like $1`, [`${SUB}.au`])
  await curfew.db.query(`delete from sessions where sub like $1`, [`${SUB}.au`])
  await curfew.db.query(`delete from session_ids where sub like $1`, [`${SUB}.au`])
  for (const text of [SUB, encodeURIComponent(SUB), 'sid-of-alice-1', 'sid-of-alice-2'])
    expect([text, await tracesOf(curfew.db, text)]).toEqual([text, []])
  expect(curfew.lines.join('')).not.toMatch(/alice/)
})

test('a logout in progress is delivered first and erased afterwards', async () => {
  await using mail = await openRelyingParty(curfew, {
    clientId: 'mail',
    curfew: { retry_schedule_ms: [3_000, 3_000] },
  })
  await using bookkeeper = { [Symbol.asyncDispose]: (await curfew.startBookkeeper()).stop }
  expect(bookkeeper).toBeDefined()
  mail.behave({ status: 503, body: `{"error_description":"${SUB} is not here"}` })
  const { id } = await curfew.client.postLogoutEvent({ iss: ISS, sub: SUB, sid: 'sid-of-alice' })
  await eventually(async () =>
    expect((await curfew.client.getLogoutEvent(id)).deliveries[0]?.attempt_count).toBeGreaterThan(0),
  )
  await projected()
  const response = await curfew.call('DELETE', `/v1/subjects/${ISSUER}/${encodeURIComponent(SUB)}`)
  expect(response.status).toBe(202)
  const asked = (await response.json()) as Erasure
  expect(response.headers.get('location')).toBe(asked.links.self)
  expect(asked).toMatchObject({ status: 'waiting', waiting: { ...NOTHING_LEFT, events: 1, deliveries: 1 } })
  expect(await curfew.client.getLogoutEvent(id)).toMatchObject({ sub: SUB, sid: 'sid-of-alice' })

  const receivedBefore = mail.received.length
  mail.behave(null)
  await eventually(async () =>
    expect(await curfew.client.getErasure(asked.id)).toMatchObject({ status: 'completed' }),
  )
  const [last] = mail.received.slice(receivedBefore)
  expect(last?.claims).toMatchObject({ sub: SUB, sid: 'sid-of-alice' })
  expect(await curfew.client.getLogoutEvent(id)).toMatchObject({ sub: null, sid: null, acknowledged: 1 })
  expect(await tracesOf(curfew.db, 'sid-of-alice')).toEqual(['erasures'])
  expect(await tracesOf(curfew.db, SUB)).toEqual(['erasures'])
})

test('a receipt that outlives its event is erased as well, and the log still verifies', async () => {
  await using mail = await openRelyingParty(curfew, { clientId: 'mail' })
  expect(mail).toBeDefined()
  await using bookkeeper = { [Symbol.asyncDispose]: (await curfew.startBookkeeper()).stop }
  expect(bookkeeper).toBeDefined()
  const own = [
    await settled({ iss: ISS, sub: SUB, sid: 'sid-of-alice' }),
    await settled({ iss: ISS, sid: 'sid-of-alice' }),
  ]
  const kept = await settled({ iss: ISS, sub: SUB, sid: 'sid-of-alice' })
  const other = await settled({ iss: ISS, sub: 'bob' })
  await projected()
  await curfew.db.query('delete from events where id = any($1)', [
    [...own, other].map(({ id }) => storedId(id)),
  ])
  expect(await erase()).toMatchObject({ status: 'completed', erased: { events: 1, receipts: 3 } })
  for (const { id } of [...own, kept]) {
    const response = await curfew.call('GET', `/v1/logout-events/${id}/receipt`)
    expect([id, response.status]).toEqual([id, 410])
  }
  expect((await curfew.call('GET', `/v1/logout-events/${other.id}/receipt`)).status).toBe(200)
  expect(await tracesOf(curfew.db, SUB)).toEqual(['erasures'])
  const audit = (await (await curfew.call('GET', '/v1/log/audit')).json()) as {
    items: readonly { receipt: string }[]
  }
  expect(audit.items.map(({ receipt }) => receipt).toSorted()).toEqual([
    'erased',
    'erased',
    'erased',
    'intact',
  ])
})

test('an erasure covers late logouts, ignores a repeated post, and leaves logouts after its close', async () => {
  await using mail = await openRelyingParty(curfew, { clientId: 'mail' })
  const event = { id: uuidV7(new Date(), randomBytes(10)), iss: ISS, sub: SUB }
  await settled(event)
  // The event first waits for its journal entry to be projected.
  const { id, waiting } = await erase()
  expect(waiting).toEqual({ ...NOTHING_LEFT, events: 1 })
  await using bookkeeper = { [Symbol.asyncDispose]: (await curfew.startBookkeeper()).stop }
  expect(bookkeeper).toBeDefined()
  const erased = async (events: number) =>
    eventually(async () => {
      await curfew.db.query('update erasures set next_look_at = now() where closed_at is null')
      const erasure = await curfew.client.getErasure(id)
      expect(erasure).toMatchObject({ status: 'completed', erased: { events } })
    })
  await erased(1)
  await curfew.client.postLogoutEvent(event)
  const late = await settled({ iss: ISS, sub: SUB })
  await erased(2)
  expect(await curfew.client.getLogoutEvent(late.id)).toMatchObject({ sub: null, acknowledged: 1 })
  expect(mail.received).toHaveLength(2)
  const quarantined = await curfew.db.query('select from quarantined_records')
  expect(quarantined.rows).toEqual([])

  clock = new Date(Date.now() + DAY_MS + HOUR_MS)
  await curfew.db.query('update erasures set next_look_at = now() where closed_at is null')
  await eventually(async () =>
    expect((await curfew.client.getErasure(id)).closed_at).toEqual(expect.any(String)),
  )
  const after = await settled({ iss: ISS, sub: SUB })
  expect(await eraseSubject(curfew.db, { id, now: () => new Date(), tags: async () => [] })).toMatchObject({
    erased: { events: 2 },
  })
  expect(await curfew.client.getLogoutEvent(after.id)).toMatchObject({ sub: SUB })
  // The next request is a new one, because the subject is known again.
  const again = await erase()
  expect(again.id).not.toBe(id)
  expect(again.subject_digest).toBe((await curfew.client.getErasure(id)).subject_digest)
})

describe('data that an operator can still act on', () => {
  test('stays until a request abandons it: a dead letter, an open session, a quarantined record', async () => {
    await using mail = await openRelyingParty(curfew, { clientId: 'mail', curfew: { retry_schedule_ms: [] } })
    mail.behave({ status: 503, body: `{"error":"forbidden","error_description":"${SUB}"}` })
    const dead = await settled({ iss: ISS, sub: SUB })
    const [{ id: deadId = '' } = {}] = dead.deliveries
    await curfew.db.query('update attempts set location = $1', [`https://mail.example/${SUB}`])
    await openSessions(ISS, [{ sub: SUB, sid: 'sid-of-alice', expiresInS: 2 * 86_400 }])
    await quarantine(JSON.stringify({ iss: ISS, sub: SUB, version: 'of tomorrow' }))
    await quarantine(JSON.stringify({ iss: ISS, sid: 'sid-of-alice', version: 'of tomorrow' }))
    await quarantine('no JSON', JSON.stringify([ISS, SUB]))
    await quarantine(JSON.stringify({ iss: ISS, sub: 'bob', initiator: SUB }))
    await quarantine(JSON.stringify({ iss: OTHER_ISS, sub: SUB }))
    await quarantine(JSON.stringify({ iss: ISS, sub: SUB, version: 'dismissed' }))
    await curfew.db.query(
      "update quarantined_records set state = 'dismissed', decided_by = 'test', decided_at = now() where value like '%dismissed%'",
    )
    await using bookkeeper = { [Symbol.asyncDispose]: (await curfew.startBookkeeper()).stop }
    expect(bookkeeper).toBeDefined()
    // The event also waits until its journal entries are projected.
    await projected()

    clock = new Date(Date.now() + HOUR_MS)
    const waiting = { ...NOTHING_LEFT, events: 1, dead_letters: 1, sessions: 1, quarantined: 3 }
    const first = await erase()
    expect(first).toMatchObject({ status: 'waiting', waiting, abandon: false, erased: { quarantined: 1 } })
    expect(await curfew.client.getDeadLetter(deadId)).toMatchObject({ error_description: SUB })
    expect((await curfew.client.previewReplay({ filter: {} })).total).toBe(1)

    const given = await erase(SUB, { abandon: true })
    expect(given).toMatchObject({ id: first.id, status: 'completed', waiting: NOTHING_LEFT, abandon: true })
    expect(given.erased).toMatchObject({ events: 1, deliveries: 1, attempts: 3, sessions: 1, quarantined: 4 })
    // The event lost its subject, so a replay would have nothing to deliver.
    expect((await curfew.client.previewReplay({ filter: {} })).total).toBe(0)
    expect((await curfew.client.listDeadLetters()).items).toEqual([])
    await expect(curfew.client.getDeadLetter(deadId)).rejects.toMatchObject({ status: 404 })
    expect(await curfew.client.getDelivery(deadId)).toMatchObject({ state: 'dead_lettered', sid: null })
    const { rows } = await curfew.db.query<{ value: Buffer }>(
      'select value from quarantined_records order by id',
    )
    expect(rows.map(({ value }) => JSON.parse(value.toString()).iss)).toEqual([ISS, OTHER_ISS])
    expect(await tracesOf(curfew.db, 'sid-of-alice')).toEqual(['erasures'])
    expect((await curfew.client.getDelivery(deadId)).attempts).toMatchObject(
      Array.from({ length: 3 }, () => ({ error_description: null, location: null })),
    )
  })

  test('is erased once it is settled: a replay delivers the dead letter', async () => {
    await using mail = await openRelyingParty(curfew, { clientId: 'mail', curfew: { retry_schedule_ms: [] } })
    mail.behave({ status: 503 })
    const dead = await settled({ iss: ISS, sub: SUB })
    const { id } = await erase()
    expect((await curfew.client.getErasure(id)).status).toBe('waiting')
    mail.behave(null)
    await using bookkeeper = { [Symbol.asyncDispose]: (await curfew.startBookkeeper()).stop }
    expect(bookkeeper).toBeDefined()
    await curfew.client.startReplay({ filter: {} })
    await eventually(async () => {
      await curfew.db.query('update erasures set next_look_at = now() where closed_at is null')
      expect((await curfew.client.getErasure(id)).status).toBe('completed')
    })
    expect(mail.received.at(-1)?.claims).toMatchObject({ sub: SUB })
    expect(await curfew.client.getLogoutEvent(dead.id)).toMatchObject({ sub: null, acknowledged: 1 })
  })
})

test('a request whose search fails permanently says so, and resumes when it is repeated', async () => {
  const { id } = await curfew.client.eraseSubject(ISSUER, SUB)
  await failErasure(curfew.db, { id, failure: 'it cannot go on' })
  expect(await curfew.client.getErasure(id)).toMatchObject({ status: 'failed', failure: 'it cannot go on' })
  const { items } = (await (await curfew.call('GET', '/v1/audit')).json()) as { items: readonly object[] }
  expect(items[0]).toMatchObject({ action: 'subject.erasure_failed', credential: 'bookkeeper' })
  expect(await claimErasure(curfew.db, { now: new Date(Date.now() + DAY_MS), leaseUntil: new Date() })).toBe(
    null,
  )
  const again = await curfew.client.eraseSubject(ISSUER, SUB)
  expect(again).toMatchObject({ id, status: 'completed', failure: null })
})

test('the audit log names the credential that asked, and nothing names the subject', async () => {
  const key = curfew.keyFor('admin')
  const path = `/v1/subjects/${ISSUER}/${encodeURIComponent(SUB)}`
  const response = await curfew.call('DELETE', path, undefined, { authorization: `Bearer ${key}` })
  expect(response.status).toBe(200)
  const { id, subject_digest } = (await response.json()) as Erasure
  const { items } = (await (await curfew.call('GET', '/v1/audit')).json()) as {
    items: readonly { action: string }[]
  }
  const detail = { issuer: ISSUER, subject_digest }
  expect(items.slice(0, 2)).toMatchObject([
    { action: 'subject.erased', credential: 'admin', object: `/v1/erasures/${id}`, detail },
    { action: 'subject.erasure_requested', credential: 'admin', object: `/v1/erasures/${id}`, detail },
  ])
  const other = await curfew.client.eraseSubject('other', SUB)
  expect(other.subject_digest).not.toBe(subject_digest)
  expect(JSON.stringify([items, other])).not.toContain('alice')

  // The path names the subject. A failed request must not log it either.
  await curfew.gate.shut()
  expect((await curfew.call('DELETE', path)).status).toBe(503)
  expect(curfew.lines.join('')).toContain('/v1/subjects/:issuer/:sub')
  expect(curfew.lines.join('')).not.toContain('alice')
})

test('a subject may contain any script, and characters that a path must escape', async () => {
  await using mail = await openRelyingParty(curfew, { clientId: 'mail' })
  for (const sub of ['a/b?c#d%2F e', 'ユーザー', '名'.repeat(255)]) {
    const { id } = await settled({ iss: ISS, sub })
    await curfew.db.query('delete from journal')
    expect(await erase(sub)).toMatchObject({ status: 'completed', erased: { events: 1 } })
    expect(await curfew.client.getLogoutEvent(id)).toMatchObject({ sub: null })
  }
  expect(mail.received).toHaveLength(3)
  expect((await curfew.call('DELETE', '/v1/subjects/unknown/some')).status).toBe(404)
  expect((await curfew.call('GET', '/v1/erasures/some')).status).toBe(404)
})

test('concurrent requests erase a subject with thousands of events page by page', async () => {
  const count = 2_300
  await curfew.db.query(
    `insert into events (id, given_id, digest, iss, sub, sid, scope, include_initiator, occurred_stated, requested_at, lane, occurred_at, accepted_at, planned_at, plan_basis)
     select gen_random_uuid(), gen_random_uuid(), '\\x00', $1, case when n % 2 = 0 then $2 end, 'sid-' || n / 2, 'session', false, true, now(),
            'bulk', now(), now(), now(), 'registered' from generate_series(2, $3::int + 1) n`,
    [ISS, SUB, count],
  )
  const erasures = await Promise.all([erase(), erase(), erase()])
  expect(new Set(erasures.map(({ id }) => id)).size).toBe(1)
  const [{ id = '' } = {}] = erasures
  expect(await curfew.client.getErasure(id)).toMatchObject({ status: 'completed', erased: { events: count } })
})
