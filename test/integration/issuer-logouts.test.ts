import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, openCurfew } from '../support/curfew.ts'
import { openRelyingParty, type RelyingParty } from '../support/relying-party.ts'
import { insertSessions, startSession } from '../support/session-rows.ts'

// Goal: an issuer logout ends every session at the issuer that began before it exactly once, and no other session.
// Method: all services over a real database, three relying parties of which one takes only the subject, and 300 subjects.

let curfew: Curfew
let parties: readonly RelyingParty[]
beforeEach(async () => {
  curfew = await openCurfew()
  parties = await Promise.all([
    openRelyingParty(curfew, { clientId: 'mail' }),
    openRelyingParty(curfew, { clientId: 'wiki' }),
    openRelyingParty(curfew, { clientId: 'desk', curfew: { subject_claims: 'sub' } }),
  ])
  await curfew.client.putIssuer('main', { iss: ISS, session_index: 'complete' })
})
afterEach(async () => {
  await curfew.stop()
  await Promise.all(parties.map((party) => party.close()))
})

const MINUTE_MS = 60_000
const PEOPLE = 300
const name = (number: number) => `user-${String(number).padStart(3, '0')}`
/** Every subject has a session at mail, every second one at wiki, and every third one at desk. */
function sessionsOf(number: number) {
  return ['mail', 'wiki', 'desk']
    .filter((_, place) => number % (place + 1) === 0)
    .map((clientId) => ({ sub: name(number), sid: `${clientId}-${number}`, clientId }))
}
const NUMBERS = Array.from({ length: PEOPLE }, (_, number) => number)
const SESSIONS = NUMBERS.flatMap(sessionsOf)

/** The sids that a relying party received, or the subs where it takes no sids. Sorted. */
const receivedBy = (clientId: string) =>
  (parties.find((party) => party.clientId === clientId)?.received ?? [])
    .map(({ claims }) => claims.sid ?? claims.sub)
    .toSorted()
const sidsOf = (clientId: string) =>
  SESSIONS.filter((session) => session.clientId === clientId)
    .map(({ sid }) => sid)
    .toSorted()

const logOutIssuer = (more: object = {}) =>
  curfew.client.postLogoutEvent({ iss: ISS, scope: 'issuer', reason: 'compromise', ...more })

/** Waits until the job has ended and its deliveries are settled. @returns the job. */
const ended = (id: string) =>
  eventually(async () => {
    const job = await curfew.client.getIssuerLogout(id)
    expect(job).toMatchObject({ state: expect.not.stringMatching('running'), waiting: 0 })
    return job
  })

describe('an issuer logout', () => {
  test('ends every session that began before it, as its dry run said', async () => {
    await insertSessions(curfew.db, ISS, SESSIONS)
    // These sessions began later: one of a known subject, and one of a new one.
    const since = new Date(Date.now() + 5 * MINUTE_MS)
    await insertSessions(curfew.db, ISS, [
      { sub: name(0), sid: 'later', clientId: 'mail', startedAt: since },
      { sub: 'newcomer', sid: 'newcomer', clientId: 'mail', startedAt: since },
    ])
    const event = { iss: ISS, scope: 'issuer', occurred_at: new Date().toISOString() } as const
    const preview = await curfew.client.previewIssuerLogout(event)
    expect(preview).toEqual({
      dry_run: true,
      iss: ISS,
      plan_basis: 'sessions',
      subjects: PEOPLE,
      sessions: SESSIONS.length,
      by_client: ['mail', 'wiki', 'desk'].map((clientId) => {
        const { length } = sidsOf(clientId)
        return { client_id: clientId, sessions: length, subjects: length }
      }),
      clients_omitted: 0,
    })
    expect((await curfew.client.listIssuerLogouts()).items).toEqual([])

    await curfew.startBookkeeper()
    const { id } = await logOutIssuer(event)
    const job = await ended(id)
    expect(job).toMatchObject({ state: 'done', total: PEOPLE, done: PEOPLE, dead: 0, plan_basis: 'sessions' })
    expect(job.acknowledged).toBe(SESSIONS.length)
    expect([receivedBy('mail'), receivedBy('wiki')]).toEqual([sidsOf('mail'), sidsOf('wiki')])
    expect(receivedBy('desk')).toEqual(NUMBERS.filter((number) => number % 3 === 0).map(name))
    const { rows } = await curfew.db.query('select sid from sessions order by sid')
    expect(rows).toEqual([{ sid: 'later' }, { sid: 'newcomer' }])
  })

  test('skips clients that the event does not name, and its initiator', async () => {
    await insertSessions(curfew.db, ISS, SESSIONS)
    await curfew.startBookkeeper()
    const event = { clients: ['mail', 'wiki'], initiator: 'mail', occurred_at: new Date().toISOString() }
    const preview = await curfew.client.previewIssuerLogout({ iss: ISS, scope: 'issuer', ...event })
    expect(preview).toMatchObject({
      subjects: PEOPLE,
      by_client: [{ client_id: 'wiki', sessions: sidsOf('wiki').length }],
    })
    const { id } = await logOutIssuer(event)
    const job = await ended(id)
    expect(job).toMatchObject({ done: PEOPLE, acknowledged: preview.sessions, ...event })
    expect([receivedBy('mail'), receivedBy('wiki'), receivedBy('desk')]).toEqual([[], sidsOf('wiki'), []])
  })

  test('without known sessions logs out no subject, and its dry run says so', async () => {
    await curfew.startBookkeeper()
    const preview = await curfew.client.previewIssuerLogout({ iss: ISS, scope: 'issuer' })
    expect(preview).toMatchObject({ plan_basis: 'registered', subjects: 0, sessions: 0, by_client: [] })
    const job = await ended((await logOutIssuer()).id)
    expect(job).toMatchObject({ state: 'done', plan_basis: 'registered', total: 0, done: 0 })
    const unregistered = 'https://unregistered.example'
    expect(await curfew.client.previewIssuerLogout({ iss: unregistered, scope: 'issuer' })).toMatchObject({
      plan_basis: 'unknown_issuer',
      subjects: 0,
    })
  })

  test('with a partial index also notifies relying parties without a known session', async () => {
    await curfew.client.putIssuer('main', { iss: ISS, session_index: 'partial' })
    await insertSessions(curfew.db, ISS, [{ sub: 'alice', sid: 'a', clientId: 'mail' }])
    await curfew.startBookkeeper()
    // Alice has no known session at wiki.
    const { id } = await logOutIssuer({ clients: ['wiki'] })
    expect(await ended(id)).toMatchObject({ done: 1, acknowledged: 1 })
    expect([receivedBy('mail'), receivedBy('wiki')]).toEqual([[], ['alice']])
  })

  test('includes late sessions, each once, and no session that began afterwards', async () => {
    await insertSessions(curfew.db, ISS, [{ sub: 'alice', sid: 'a', clientId: 'mail' }])
    await curfew.startBookkeeper()
    const { id } = await logOutIssuer()
    await ended(id)
    const late = { iss: ISS, sub: 'bob', clientId: 'mail', startedAt: new Date(Date.now() - MINUTE_MS) }
    await startSession(curfew.db, { ...late, sid: 'b1' })
    await eventually(() => expect(receivedBy('mail')).toEqual(['a', 'b1']))
    // The logout of bob exists by now, and it covers sessions that come later still.
    await startSession(curfew.db, { ...late, sid: 'b2' })
    await eventually(() => expect(receivedBy('mail')).toEqual(['a', 'b1', 'b2']))
    await eventually(async () =>
      expect(await curfew.client.getIssuerLogout(id)).toMatchObject({ total: 1, done: 2, acknowledged: 3 }),
    )
    await startSession(curfew.db, { ...late, sid: 'b3', startedAt: new Date() })
    const { rows } = await curfew.db.query(
      'select sub from issuer_logouts_late union select sid from sessions',
    )
    expect(rows).toEqual([{ sub: 'b3' }])
  })

  test('includes a late session even if a later issuer logout is about other clients', async () => {
    await curfew.client.putIssuer('main', { iss: ISS, session_index: 'partial' })
    await insertSessions(curfew.db, ISS, [{ sub: 'alice', sid: 'a', clientId: 'desk' }])
    await curfew.startBookkeeper()
    await ended((await logOutIssuer({ clients: ['mail'] })).id)
    await ended((await logOutIssuer({ clients: ['wiki'] })).id)
    const late = { iss: ISS, sub: 'bob', sid: 'b', clientId: 'mail' }
    await startSession(curfew.db, { ...late, startedAt: new Date(Date.now() - MINUTE_MS) })
    await eventually(() =>
      expect([receivedBy('mail'), receivedBy('wiki')]).toEqual([
        ['alice', 'bob'],
        ['alice', 'bob'],
      ]),
    )
  })
})

describe('an event of scope issuer', () => {
  const post = (key: string, body: unknown, query = '') =>
    curfew.call('POST', `/v1/logout-events${query}`, body, { authorization: `Bearer ${key}` })

  test('needs the scope admin, also in an array, and the refusal names it', async () => {
    const key = curfew.keyFor('events:write', 'ledger:read')
    const event = { iss: ISS, scope: 'issuer' }
    for (const query of ['', '?dry_run=true']) {
      const refused = await post(key, event, query)
      expect([refused.status, refused.headers.get('www-authenticate')]).toEqual([
        403,
        'Bearer error="insufficient_scope", scope="admin"',
      ])
      expect(await refused.json()).toMatchObject({ errors: [{ pointer: '/scope' }] })
    }
    const mixed = await post(key, [event, { iss: ISS, sub: 'alice' }])
    expect(await mixed.json()).toMatchObject([
      { status: 'rejected', problem: { status: 403, errors: [{ pointer: '/0/scope' }] } },
      { status: 'accepted' },
    ])
    await eventually(async () => expect((await curfew.db.query('select from events')).rows).toHaveLength(1))
    expect((await curfew.db.query('select from issuer_logouts')).rows).toEqual([])
  })

  test('can be previewed only as a single event with known parameters', async () => {
    const bad = async (body: unknown, query: string) => (await post(curfew.adminKey, body, query)).status
    expect(await bad({ iss: ISS, sub: 'alice' }, '?dry_run=true')).toBe(400)
    expect(await bad([{ iss: ISS, scope: 'issuer' }], '?dry_run=true')).toBe(400)
    expect(await bad({ iss: ISS, scope: 'issuer' }, '?dry_run=perhaps')).toBe(400)
    expect(await bad({ iss: ISS, scope: 'issuer' }, '?dryrun=true')).toBe(400)
    expect(await bad({ iss: ISS, scope: 'issuer', parent_id: crypto.randomUUID() }, '')).toBe(400)
    expect((await curfew.db.query('select from events')).rows).toEqual([])
  })

  test('cannot be previewed without a database', async () => {
    await curfew.gate.shut()
    expect((await post(curfew.adminKey, { iss: ISS, scope: 'issuer' }, '?dry_run=true')).status).toBe(503)
    await curfew.gate.open()
  })

  test('is in progress until its job has ended, and has no summary', async () => {
    await insertSessions(curfew.db, ISS, SESSIONS.slice(0, 3))
    const { id } = await logOutIssuer()
    const running = await eventually(() => curfew.client.getLogoutEvent(id, { wait: 1 }))
    expect(running).toMatchObject({
      ...{ scope: 'issuer', sub: null, sid: null, lane: 'bulk', status: 'in_progress', settled_at: null },
      issuer_logout: {
        state: 'running',
        total: null,
        done: 0,
        links: { self: `/v1/issuer-logouts/${id}?issuer=main` },
      },
    })
    // The bookkeeper projects the journal long before the job ends.
    await curfew.db.query('delete from journal')
    for (const part of ['summary', 'receipt'])
      expect((await curfew.call('GET', `/v1/logout-events/${id}/${part}`)).status).toBe(409)
    const waiting = curfew.client.getLogoutEvent(id, { wait: 25 })
    await curfew.startBookkeeper()
    expect(await waiting).toMatchObject({
      status: 'settled',
      issuer_logout: { state: 'done', total: 1, done: 1 },
    })
    await eventually(async () =>
      expect((await curfew.call('GET', `/v1/logout-events/${id}/receipt`)).status).toBe(200),
    )
    const { items } = await curfew.client.listDeliveries()
    const [first] = items
    expect(await curfew.client.getLogoutEvent(first?.event_id ?? '')).toMatchObject({
      ...{ parent_id: id, scope: 'subject', sub: name(0), lane: 'bulk', reason: 'compromise' },
      issuer_logout: null,
    })
  })

  test('is audited once with its credential, and so is its cancellation', async () => {
    await insertSessions(curfew.db, ISS, SESSIONS)
    const body = { iss: ISS, scope: 'issuer', id: crypto.randomUUID() }
    for (const _ of [1, 2]) expect((await post(curfew.keyFor('admin'), body)).status).toBe(202)
    await eventually(() => curfew.client.getIssuerLogout(body.id))
    for (const _ of [1, 2]) expect((await curfew.client.cancelIssuerLogout(body.id)).state).toBe('cancelled')
    const { rows } = await curfew.db.query(
      "select credential, action, object, detail from audit where action like 'issuer_logout.%' order by id",
    )
    const object = `/v1/issuer-logouts/${body.id}?issuer=main`
    expect(rows).toEqual([
      { credential: 'admin', action: 'issuer_logout.requested', object, detail: { iss: ISS } },
      { credential: 'admin', action: 'issuer_logout.cancelled', object, detail: { done: 0 } },
    ])
  })
})

test('the list shows all issuer logouts page by page, the latest first', async () => {
  const ids: string[] = []
  for (const iss of [ISS, 'https://other.example', ISS]) {
    const { id } = await logOutIssuer({ iss })
    await eventually(() => curfew.client.getIssuerLogout(id))
    ids.unshift(id)
  }
  const first = await curfew.client.listIssuerLogouts({ limit: 2 })
  const second = await curfew.client.listIssuerLogouts({ limit: 2, cursor: first.next_cursor ?? '' })
  expect([...first.items, ...second.items].map(({ id }) => id)).toEqual(ids)
  expect(second.next_cursor).toBeNull()
  const { items } = await curfew.client.listIssuerLogouts({ iss: 'https://other.example' })
  expect(items.map(({ id, plan_basis }) => [id, plan_basis])).toEqual([[ids[1], 'unknown_issuer']])
})
