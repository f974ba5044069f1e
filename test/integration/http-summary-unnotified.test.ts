import { randomUUID } from 'node:crypto'
import type { ClientId, Issuer, IssuerName } from '@curfew/domain'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, ISSUER, openCurfew } from '../support/curfew.ts'
import { openRelyingParty, type RelyingParty } from '../support/relying-party.ts'
import { sessionsOf } from '../support/session-rows.ts'

// Goal: the summary never calls a logout complete while the person is known to be signed in at an application that Curfew cannot
// notify, and it names the clients that were left out.
// Method: the real API, workers and bookkeeper; relying parties with and without an endpoint, and sessions at both.

let curfew: Curfew
const rps: RelyingParty[] = []
const HOUR_MS = 3_600_000

beforeAll(async () => {
  curfew = await openCurfew({ bookkeepers: 1 })
  const open = await Promise.all([
    openRelyingParty(curfew, { clientId: 'mail', metadata: { client_name: 'Mail' } }),
    openRelyingParty(curfew, { clientId: 'wiki', metadata: { client_name: 'Wiki' } }),
  ])
  rps.push(...open)
  const answer = await curfew.call('PUT', '/v1/issuers/main/relying-parties/fax', { client_name: 'Fax' })
  expect(answer.status).toBe(201)
})
afterAll(async () => {
  await curfew.stop()
  await Promise.all(rps.map((rp) => rp.close()))
})

const post = async (event: Readonly<Record<string, unknown>>) =>
  (await curfew.client.postLogoutEvent({ iss: ISS, sub: randomUUID(), ...event })).id
const setIndex = (session_index: 'off' | 'partial' | 'complete') =>
  curfew.client.putIssuer(ISSUER, { iss: ISS, session_index })

/** Posts a session of each client, and waits until the index has them. */
async function hold(sub: string, clientIds: readonly string[], over: object = {}): Promise<void> {
  const known = (await sessionsOf(curfew.db, sub)).length
  for (const client_id of clientIds) {
    const expires_at = new Date(Date.now() + HOUR_MS - 60_000).toISOString()
    await curfew.client.postSession({ iss: ISS, sub, sid: `${sub}-sid`, client_id, expires_at, ...over })
  }
  await eventually(async () =>
    expect(await sessionsOf(curfew.db, sub)).toHaveLength(known + clientIds.length),
  )
}
const summaryOf = (id: string) => curfew.client.getEventSummary(id, { wait: 20 })
const before = () => new Date(Date.now() - HOUR_MS).toISOString()

test('an initiator that is notified is an application like the others', async () => {
  const included = await post({ initiator: 'mail', include_initiator: true, clients: ['mail'] })
  const text = 'Signed out of Mail.'
  expect(await summaryOf(included)).toMatchObject({ total: 1, text, initiator: null })
  // The event leaves the initiator out by naming others.
  const leftOut = await post({ initiator: 'wiki', clients: ['mail'] })
  expect(await summaryOf(leftOut)).toMatchObject({ total: 1, text, initiator: null })
})

test('a logout is incomplete while a session is at a client without an endpoint, or at an unregistered one', async () => {
  const sub = randomUUID()
  await hold(sub, ['mail', 'fax', 'legacy'])
  const id = await post({ sub })
  const left = { state: 'not_signed_out', level: null, within_s: 3_600, by_itself: true }
  const summary = {
    status: 'incomplete',
    signed_out: 2,
    total: 4,
    text: 'Signed out of 2 of 4 applications. Fax and legacy could not be notified: please sign out there, or close them.',
    applications: [
      { client_id: 'mail', state: 'signed_out', not_notified: null },
      { client_id: 'wiki', state: 'signed_out', not_notified: null },
      { client_id: 'fax', name: 'Fax', ...left, not_notified: 'no_endpoint' },
      { client_id: 'legacy', name: 'legacy', ...left, not_notified: 'not_registered' },
    ],
  }
  expect(await summaryOf(id)).toMatchObject(summary)
  expect(await curfew.client.getLogoutEvent(id)).toMatchObject({ status: 'settled', total: 2 })

  // A later logout covers the same sessions, and does not end them either.
  const later = await post({ sub })
  for (const one of [later, id]) expect(await summaryOf(one)).toMatchObject(summary)

  await curfew.client.endSession({ iss: ISS, sid: `${sub}-sid`, client_id: 'fax' })
  await eventually(async () => expect(await summaryOf(id)).toMatchObject({ total: 3 }))
  await curfew.db.query('update sessions set expires_at = now() where sub = $1', [sub])
  for (const one of [later, id]) {
    expect(await summaryOf(one)).toMatchObject({
      status: 'complete',
      text: 'Signed out of all 2 applications.',
    })
  }
})

test('a session under a pairwise sub at a client without an endpoint makes a logout incomplete', async () => {
  const sub = randomUUID()
  const body = { client_name: 'Pairwise fax', subject_type: 'pairwise' }
  await curfew.call('PUT', '/v1/issuers/main/relying-parties/pairwise-fax', body)
  await hold(sub, ['mail'])
  await hold(`${sub}@fax`, ['pairwise-fax'], { sid: `${sub}-sid` })
  const id = await post({ sub, sid: `${sub}-sid`, scope: 'subject' })
  expect(await summaryOf(id)).toMatchObject({
    status: 'incomplete',
    text: 'Signed out of 2 of 3 applications. Pairwise fax could not be notified: please sign out there, or close it.',
  })
  await curfew.call('DELETE', '/v1/issuers/main/relying-parties/pairwise-fax')
})

test('an endpoint that is registered after a logout does not make the logout complete', async () => {
  const sub = randomUUID()
  const clientId = 'late-endpoint'
  await curfew.call('PUT', `/v1/issuers/main/relying-parties/${clientId}`, {})
  await hold(sub, [clientId])
  const ids = [
    await post({ sub, clients: [clientId] }),
    await post({ clients: [clientId] }),
    await post({ clients: ['registered-later'] }),
  ]
  const expectLeft = async () => {
    for (const id of ids)
      expect(await summaryOf(id)).toMatchObject({ status: 'incomplete', signed_out: 0, total: 1 })
  }
  await expectLeft()
  // The projection of the logout has found that no endpoint is owed it.
  await eventually(async () => {
    const { items } = await curfew.client.listOrphans({ client_id: clientId })
    expect(items).toHaveLength(1)
  })
  for (const named of [clientId, 'registered-later'])
    rps.push(await openRelyingParty(curfew, { clientId: named }))
  await expectLeft()
})

test.each([
  ['its sid', 1, (sub: string) => ({ scope: 'session', sid: `${sub}-sid` })],
  ['another sid', 0, () => ({ scope: 'session', sid: randomUUID() })],
  ['its device', 1, () => ({ scope: 'device', device: 'phone' })],
  ['another device', 0, () => ({ scope: 'device', device: 'desktop' })],
  ['a time before it began', 0, () => ({ occurred_at: new Date(Date.now() - 2 * HOUR_MS).toISOString() })],
  ['another client', 0, () => ({ clients: ['mail'] })],
  [
    'its client as the initiator, in it',
    0,
    (sub: string) => ({ scope: 'subject', initiator: 'fax', sid: `${sub}-sid` }),
  ],
  [
    'its client as the initiator, in another session',
    1,
    () => ({ scope: 'subject', initiator: 'fax', sid: randomUUID() }),
  ],
])('for a session at a client without an endpoint, a logout with %s counts %i', async (_, count, eventOf) => {
  const sub = randomUUID()
  await hold(sub, ['fax'], { device: 'phone', started_at: before() })
  const id = await post({ sub, ...eventOf(sub) })
  const { applications } = await summaryOf(id)
  expect(applications.filter(({ client_id }) => client_id === 'fax')).toHaveLength(count)
})

test('a session that is posted after its logout counts if it began before', async () => {
  const sub = randomUUID()
  const id = await post({ sub, clients: ['mail', 'fax'] })
  await summaryOf(id)
  await hold(sub, ['fax'], { started_at: before() })
  expect(await summaryOf(id)).toMatchObject({
    status: 'incomplete',
    text: 'Signed out of 1 of 2 applications. Fax could not be notified: please sign out there, or close it.',
  })
})

test('a named client that is not registered is named in the summary and in the event', async () => {
  const mixed = await post({ clients: ['mail', 'typo'] })
  expect(await summaryOf(mixed)).toMatchObject({
    status: 'incomplete',
    text: 'Signed out of 1 of 2 applications. typo is not registered, so it was not notified: if you are signed in there, please sign out.',
    applications: [{ client_id: 'mail' }, { client_id: 'typo', not_notified: 'not_registered' }],
  })
  expect(await curfew.client.getLogoutEvent(mixed)).toMatchObject({
    status: 'settled',
    clients: ['mail', 'typo'],
    unregistered_clients: ['typo'],
  })
  const alone = await post({ clients: ['typo'] })
  expect(await summaryOf(alone)).toMatchObject({ status: 'incomplete', signed_out: 0, total: 1 })
  const everyone = await post({})
  await summaryOf(everyone)
  expect(await curfew.client.getLogoutEvent(everyone)).toMatchObject({
    clients: null,
    unregistered_clients: [],
  })
})

test('a named client without an endpoint is left, unless the index shows that it holds no session', async () => {
  const silent = await post({ clients: ['fax'] })
  expect(await summaryOf(silent)).toMatchObject({ status: 'incomplete', total: 1 })
  await setIndex('complete')
  const sub = randomUUID()
  await hold(sub, ['mail'])
  const known = await post({ sub, clients: ['mail', 'fax'] })
  expect(await summaryOf(known)).toMatchObject({ status: 'complete', total: 1 })
  await setIndex('partial')
})

test('an index that is off says nothing about sessions', async () => {
  const sub = randomUUID()
  await hold(sub, ['legacy'])
  const id = await post({ sub })
  await setIndex('off')
  const { applications } = await summaryOf(id)
  expect(applications.map(({ client_id }) => client_id)).not.toContain('legacy')
  await setIndex('partial')
})

test('a key that is bound to a client sees neither other clients without a delivery nor an initiator', async () => {
  const sub = randomUUID()
  await hold(sub, ['fax'])
  const id = await post({ sub, clients: ['mail', 'chat', 'fax', 'typo', 'wiki'], initiator: 'wiki' })
  await summaryOf(id)
  const bound = curfew.keyBoundTo(
    {
      ...{ kind: 'clients', issuer: ISSUER as IssuerName, iss: ISS as Issuer },
      clients: new Set(['mail' as ClientId]),
    },
    'events:read',
  )
  const read = async (path: string) =>
    (await curfew.call('GET', path, undefined, { authorization: `Bearer ${bound}` })).json()
  expect(await read(`/v1/logout-events/${id}/summary`)).toMatchObject({
    status: 'complete',
    applications: [{ client_id: 'mail' }],
    initiator: null,
  })
  expect(await read(`/v1/logout-events/${id}`)).toMatchObject({
    clients: ['mail'],
    unregistered_clients: [],
  })
})

test('more sessions than the ledger reads leave the summary incomplete', async () => {
  const sub = randomUUID()
  await hold(sub, ['mail'])
  await curfew.db.query(
    `insert into sessions (issuer, sub, sid, client_id, started_at, accepted_at, expires_at)
     select issuer, sub, sid || n, client_id, started_at, accepted_at, expires_at
       from sessions, generate_series(1, 10001) n where sub = $1`,
    [sub],
  )
  const id = await post({ sub, clients: ['mail'] })
  expect(await summaryOf(id)).toMatchObject({
    status: 'incomplete',
    text: 'Signed out of Mail. There may be more applications to sign out of.',
  })
})
