import { randomUUID } from 'node:crypto'
import type { LogoutEventStatus } from '@curfew/contract'
import type { AccessFilter, ClientId, Issuer, IssuerName, ReceiptClaims } from '@curfew/domain'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, openCurfew } from '../support/curfew.ts'
import { openRelyingParty, type RelyingParty } from '../support/relying-party.ts'

// Goal: the same id at two issuers is two events, and no issuer learns or changes anything of another's.
// Method: two issuers with a relying party each, whose IdPs use the same ids on purpose.

const OTHER_ISS = 'https://other.example'
const main: AccessFilter = { kind: 'issuer', issuer: 'main' as IssuerName, iss: ISS as Issuer }
const other: AccessFilter = { kind: 'issuer', issuer: 'other' as IssuerName, iss: OTHER_ISS as Issuer }
const shopOwner: AccessFilter = { ...other, kind: 'clients', clients: new Set(['shop' as ClientId]) }

let curfew: Curfew
let keys: Readonly<Record<'main' | 'other' | 'owner', string>>
let rps: Readonly<Record<'mail' | 'shop', RelyingParty>>

beforeAll(async () => {
  curfew = await openCurfew({ bookkeepers: 1 })
  await curfew.client.putIssuer('other', { iss: OTHER_ISS })
  keys = {
    main: curfew.keyBoundTo(main, 'admin'),
    other: curfew.keyBoundTo(other, 'admin'),
    owner: curfew.keyBoundTo(shopOwner, 'events:read', 'ledger:read'),
  }
  rps = {
    mail: await openRelyingParty(curfew, { clientId: 'mail' }),
    shop: await openRelyingParty(curfew, { clientId: 'shop', issuer: 'other', iss: OTHER_ISS }),
  }
})
afterAll(async () => {
  await curfew.stop()
  await Promise.all(Object.values(rps).map((rp) => rp.close()))
})

type Who = 'admin' | keyof typeof keys

async function as(who: Who, method: string, path: string, body?: unknown) {
  const key = who === 'admin' ? curfew.adminKey : keys[who]
  const response = await curfew.call(method, path, body, { authorization: `Bearer ${key}` })
  return { status: response.status, headers: response.headers, text: await response.text() }
}
async function json<Answer>(who: Who, path: string): Promise<Answer> {
  const { status, text } = await as(who, 'GET', path)
  expect([path, status]).toEqual([path, 200])
  return JSON.parse(text) as Answer
}
const post = (who: Who, event: Readonly<Record<string, unknown>>) =>
  as(who, 'POST', '/v1/logout-events', event)

/** The whole answer without its date. The requested id and the trace id are masked. */
async function whole(who: Who, path: string, id: string) {
  const startedMs = performance.now()
  const { status, headers, text } = await as(who, 'GET', path.replace('ID', id))
  const waited = performance.now() - startedMs >= 900
  const body = text.replaceAll(id, 'ID').replace(/"trace_id":"[0-9a-f]+"/, '"trace_id":""')
  return { status, headers: [...headers].filter(([name]) => name !== 'date'), body, waited }
}

async function claimsOf(who: Who, id: string): Promise<ReceiptClaims> {
  return eventually(async () => {
    const { status, text } = await as(who, 'GET', `/v1/logout-events/${id}/receipt`)
    expect(status).toBe(200)
    return JSON.parse(Buffer.from(text.split('.')[1] ?? '', 'base64url').toString()) as ReceiptClaims
  })
}

describe('the same id at two issuers', () => {
  test('is two events, two logouts and two receipts', async () => {
    const id = randomUUID()
    expect((await post('other', { id, iss: OTHER_ISS, sub: 'bob' })).status).toBe(202)
    expect((await post('main', { id, iss: ISS, sub: 'alice' })).status).toBe(202)
    const [own, others] = await Promise.all([
      json<LogoutEventStatus>('main', `/v1/logout-events/${id}?wait=30`),
      json<LogoutEventStatus>('other', `/v1/logout-events/${id}?wait=30`),
    ])
    expect([own.id, own.sub, own.status, own.deliveries.map(({ client_id }) => client_id)]).toEqual([
      ...[id, 'alice', 'settled', ['mail']],
    ])
    expect([others.id, others.sub, others.status, others.deliveries.map((one) => one.client_id)]).toEqual([
      ...[id, 'bob', 'settled', ['shop']],
    ])
    const txnOf = ({ received }: RelyingParty, sub: string) =>
      received.filter(({ claims }) => claims.sub === sub).map(({ claims }) => claims.txn)
    expect([txnOf(rps.mail, 'alice'), txnOf(rps.shop, 'bob')]).toEqual([[id], [id]])
    expect((await claimsOf('main', id)).event).toMatchObject({ id, iss: ISS, sub: 'alice' })
    expect((await claimsOf('other', id)).event).toMatchObject({ id, iss: OTHER_ISS, sub: 'bob' })
    const { rows } = await curfew.db.query('select reason from quarantined_records')
    expect(rows).toEqual([])
  })

  test('hides the event of one issuer from the other', async () => {
    const id = randomUUID()
    const seen = async () => ({
      event: await whole('main', '/v1/logout-events/ID', id),
      summary: await whole('main', '/v1/logout-events/ID/summary', id),
      deliveries: await whole('main', '/v1/deliveries?event_id=ID', id),
    })
    const posted = await post('main', { id, iss: ISS, sub: 'carol' })
    await as('main', 'GET', `/v1/logout-events/${id}?wait=30`)
    await claimsOf('main', id)
    const before = await seen()
    for (const sub of ['carol', 'dave']) {
      const { status, text } = await post('other', { id, iss: OTHER_ISS, sub })
      // First the same content, then another. The second post conflicts with the first post of the same issuer.
      expect([sub, status]).toEqual([sub, sub === 'carol' ? 202 : 409])
      expect(text).not.toContain('main')
    }
    await as('other', 'GET', `/v1/logout-events/${id}?wait=30`)
    expect(await seen()).toEqual(before)
    // A repeated post still names the same event, and other content still conflicts.
    expect((await post('main', { id, iss: ISS, sub: 'carol' })).text).toBe(posted.text)
    expect((await post('main', { id, iss: ISS, sub: 'erin' })).status).toBe(409)
  })

  test('is planned twice when one batch of the log holds both events', async () => {
    const id = randomUUID()
    const answer = await post('admin', [
      { id, iss: OTHER_ISS, sub: 'frank' },
      { id, iss: ISS, sub: 'grace' },
    ] as never)
    expect(answer.status).toBe(202)
    for (const [who, sub] of [
      ['main', 'grace'],
      ['other', 'frank'],
    ] as const) {
      const event = await json<LogoutEventStatus>(who, `/v1/logout-events/${id}?wait=30`)
      expect([event.status, event.sub]).toEqual(['settled', sub])
    }
  })

  test('has links that name the issuer of each event', async () => {
    const id = randomUUID()
    const links = await Promise.all(
      [ISS, OTHER_ISS].map(
        async (iss) => JSON.parse((await post('admin', { id, iss, sub: 'heidi' })).text).links,
      ),
    )
    expect(links).toEqual(
      ['main', 'other'].map((issuer) => ({
        self: `/v1/logout-events/${id}?issuer=${issuer}`,
        receipt: `/v1/logout-events/${id}/receipt?issuer=${issuer}`,
      })),
    )
    for (const { self, receipt } of links) {
      const event = await json<LogoutEventStatus>('admin', `${self}&wait=30`)
      expect(event.links).toEqual({ self, receipt })
      expect(event.deliveries[0]?.links.event).toBe(self)
      const summary = await json<{ links: object }>('admin', self.replace('?', '/summary?'))
      expect(summary.links).toEqual({ self: self.replace('?', '/summary?'), event: self })
      await eventually(async () => expect((await as('admin', 'GET', receipt)).status).toBe(200))
    }
  })
})

describe('an id that several issuers use', () => {
  const id = randomUUID()
  const PATHS = ['/v1/logout-events/ID', '/v1/logout-events/ID/summary', '/v1/logout-events/ID/receipt']
  beforeAll(async () => {
    await post('admin', { id, iss: ISS, sub: 'ivan' })
    await post('admin', { id, iss: OTHER_ISS, sub: 'judy' })
    for (const who of ['main', 'other'] as const) {
      await json(who, `/v1/logout-events/${id}?wait=30`)
      await claimsOf(who, id)
    }
  })

  test.each([...PATHS, '/v1/deliveries?event_id=ID', '/v1/issuer-logouts/ID'])(
    'is a 409 at %s for an unbound key, and the answer lists the issuers',
    async (path) => {
      const { status, body } = await whole('admin', path, id)
      expect([status, JSON.parse(body).issuers]).toEqual([409, ['main', 'other']])
    },
  )

  test.each(PATHS)('is resolved at %s by the parameter issuer', async (path) => {
    for (const issuer of ['main', 'other'] as const) {
      expect((await as('admin', 'GET', `${path.replace('ID', id)}?issuer=${issuer}`)).text).toBe(
        (await as(issuer, 'GET', path.replace('ID', id))).text,
      )
    }
  })

  test.each(PATHS)('is a 404 at %s for a bound key that names another issuer', async (path) => {
    const { status } = await as('other', 'GET', `${path.replace('ID', id)}?issuer=main`)
    expect(status).toBe(404)
    expect((await as('other', 'GET', `${path.replace('ID', id)}?issuer=other`)).status).toBe(200)
  })

  test('still finds both receipts after the events are deleted', async () => {
    const old = randomUUID()
    await post('admin', { id: old, iss: ISS, sub: 'kim' })
    await post('admin', { id: old, iss: OTHER_ISS, sub: 'lee' })
    const claims = [await claimsOf('main', old), await claimsOf('other', old)]
    await curfew.db.query(
      'with e as (delete from events where given_id = $1 returning id) delete from deliveries using e where event_id = e.id',
      [old],
    )
    expect([await claimsOf('main', old), await claimsOf('other', old)]).toEqual(claims)
    const { status, body } = await whole('admin', PATHS[2] ?? '', old)
    expect([status, JSON.parse(body).issuers]).toEqual([409, ['main', 'other']])
    expect((await as('admin', 'GET', `/v1/logout-events/${old}/receipt?issuer=main`)).status).toBe(200)
  })
})

describe('an event of another issuer looks like one that does not exist', () => {
  const id = randomUUID()
  const issuerLogout = randomUUID()
  beforeAll(async () => {
    await post('main', { id, iss: ISS, sub: 'mallory' })
    await post('main', { id: issuerLogout, iss: ISS, scope: 'issuer' })
    await json('main', `/v1/logout-events/${id}?wait=30`)
    await json('main', `/v1/logout-events/${issuerLogout}?wait=30`)
    await claimsOf('main', id)
  })
  const QUERIES = ['', '?issuer=main', '?issuer=other', '?issuer=nowhere']

  test.each(
    [
      '/v1/logout-events/ID',
      '/v1/logout-events/ID/summary',
      '/v1/logout-events/ID/receipt',
      '/v1/issuer-logouts/ID',
    ].flatMap((path) => QUERIES.map((query) => path + query)),
  )('at %s', async (path) => {
    const theirs = path.includes('issuer-logouts') ? issuerLogout : id
    for (const who of ['other', 'owner'] as const) {
      const nothing = await whole(who, path, randomUUID())
      expect([nothing.status, nothing.waited]).toEqual([404, false])
      expect(await whole(who, path, theirs)).toEqual(nothing)
    }
  })

  test.each([
    '/v1/logout-events/ID?wait=1',
    '/v1/logout-events/ID/summary?wait=1',
    '/v1/logout-events/ID?wait=1&issuer=main',
  ])('at %s, also in how long the answer takes', async (path) => {
    for (const who of ['other', 'owner'] as const) {
      const nothing = await whole(who, path, randomUUID())
      expect([nothing.status, nothing.waited]).toEqual([404, true])
      expect(await whole(who, path, id)).toEqual(nothing)
    }
  })

  test('as does an event of the same issuer, for a key whose clients get no delivery of it', async () => {
    const own = randomUUID()
    await post('other', { id: own, iss: OTHER_ISS, sub: 'niaj', clients: ['none'] })
    await json('other', `/v1/logout-events/${own}?wait=30`)
    const nothing = await whole('owner', '/v1/logout-events/ID?wait=1', randomUUID())
    expect(await whole('owner', '/v1/logout-events/ID?wait=1', own)).toEqual(nothing)
  })

  test('in the list of its deliveries, which is empty', async () => {
    for (const query of ['', '&issuer=main', '&issuer=other']) {
      expect(await json('other', `/v1/deliveries?event_id=${id}${query}`)).toEqual({
        items: [],
        next_cursor: null,
      })
    }
  })

  test('when its id is posted, which is accepted like a new id', async () => {
    const answerOf = async (given: string) => {
      const { status, text } = await post('other', { id: given, iss: OTHER_ISS, sub: 'olivia' })
      return [status, text.replaceAll(given, 'ID')]
    }
    expect(await answerOf(id)).toEqual(await answerOf(randomUUID()))
  })
})

test('an event of an unregistered issuer has working links without an issuer name', async () => {
  const id = randomUUID()
  const { status, text } = await post('admin', { id, iss: 'https://unregistered.example', sub: 'rupert' })
  const self = `/v1/logout-events/${id}`
  expect([status, JSON.parse(text).links]).toEqual([202, { self, receipt: `${self}/receipt` }])
  const event = await json<LogoutEventStatus>('admin', `${self}?wait=30`)
  expect([event.plan_basis, event.links.self]).toEqual(['unknown_issuer', self])
  expect((await as('admin', 'GET', `${self}?issuer=main`)).status).toBe(404)
})

test('an unbound key can wait for an id without naming the issuer, even before the event is planned', async () => {
  const id = randomUUID()
  const waiting = json<LogoutEventStatus>('admin', `/v1/logout-events/${id}?wait=30`)
  await post('main', { id, iss: ISS, sub: 'peggy' })
  expect(await waiting).toMatchObject({ id, status: 'settled', sub: 'peggy' })
})

test('no answer contains an internal id', async () => {
  const id = randomUUID()
  await post('main', { id, iss: ISS, sub: 'quentin' })
  await json('main', `/v1/logout-events/${id}?wait=30`)
  await claimsOf('main', id)
  const { rows } = await curfew.db.query<{ id: string }>('select id from events where given_id = $1', [id])
  const [{ id: inner = '' } = {}] = rows
  expect(inner).not.toBe(id)
  for (const path of [
    `/v1/logout-events/${id}`,
    `/v1/deliveries?event_id=${id}`,
    '/v1/deliveries',
    '/v1/log/audit',
  ]) {
    const { status, text } = await as('admin', 'GET', path)
    expect([path, status, text.includes(id), text.includes(inner)]).toEqual([path, 200, true, false])
  }
  // A request by internal id finds nothing either.
  expect((await as('admin', 'GET', `/v1/logout-events/${inner}`)).status).toBe(404)
  expect((await as('admin', 'GET', `/v1/logout-events/${inner}/receipt`)).status).toBe(404)
  expect(curfew.lines.filter((line) => line.includes(inner))).toEqual([])
})
