import { randomUUID } from 'node:crypto'
import type { AuditSetupInput, Delivery } from '@curfew/contract'
import type {
  AccessFilter,
  BindingId,
  ClientId,
  DeliveryId,
  Issuer,
  IssuerName,
  Session,
} from '@curfew/domain'
import { applySessions, type Database, projectSla, quarantine } from '@curfew/ledger'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, openCurfew, type Route } from '../support/curfew.ts'
import { pileUp } from './dead-letters-support.ts'

// Goal: on every route, an IdP's key sees only its issuer and an RP owner's key only its clients. Future routes are covered too.
// Data of others is answered exactly like data that does not exist.
// Method: the server lists its routes. Every route whose path decides access is tried with paths of others. A route that
// decides access itself needs a case of its own below.

const OTHER_ISS = 'https://other.example'
const main = { issuer: 'main' as IssuerName, iss: ISS as Issuer }
const idp: AccessFilter = { kind: 'issuer', ...main }
const mailOwner: AccessFilter = { kind: 'clients', ...main, clients: new Set(['mail' as ClientId]) }

let curfew: Curfew
let keys: Readonly<Record<'idp' | 'owner', string>>
/** A dead letter with its delivery and event for each client: mail and wiki at main, and shop at the other issuer. */
let dead: Readonly<Record<'mail' | 'wiki' | 'shop', Delivery>>

beforeAll(async () => {
  curfew = await openCurfew({ workers: 0 })
  keys = { idp: curfew.keyBoundTo(idp, 'admin'), owner: curfew.keyBoundTo(mailOwner, 'admin') }
  await curfew.client.putIssuer('other', { iss: OTHER_ISS })
  const of = async (issuer: string, clientId: string, iss: string) => {
    const backchannel_logout_uri = `https://${clientId}.example/logout`
    await curfew.client.putRelyingParty(issuer, clientId, { backchannel_logout_uri })
    const [id = ''] = await pileUp(curfew.db, { clientId, count: 1, iss })
    return curfew.client.getDelivery(id)
  }
  dead = {
    mail: await of('main', 'mail', ISS),
    wiki: await of('main', 'wiki', ISS),
    shop: await of('other', 'shop', OTHER_ISS),
  }
})
afterAll(() => curfew.stop())

async function as(who: 'idp' | 'owner', method: string, path: string, body?: unknown) {
  const response = await curfew.call(method, path, body, { authorization: `Bearer ${keys[who]}` })
  const text = await response.text()
  return { status: response.status, body: text === '' ? null : JSON.parse(text) }
}
const nameOf = ({ method, path }: Route) => `${method} ${path}`
const routes = (access: string) =>
  curfew.routes.filter((route) => route.access === access && route.method !== 'HEAD')

describe('a route whose path decides access', () => {
  const HIDDEN = 'There is nothing here that this credential may see.'

  test('answers 404 for another issuer, whether that exists or not', async () => {
    expect(routes('path').length).toBeGreaterThan(3)
    for (const route of routes('path')) {
      for (const [issuer, client] of [
        ['other', 'shop'],
        ['other', 'unknown'],
        ['nothing', 'mail'],
      ]) {
        const path = route.path.replace(':issuer', `${issuer}`).replace(':client_id', `${client}`)
        const filled = path.replaceAll(/:\w+/g, 'some')
        const { status, body } = await as(
          'idp',
          route.method,
          filled,
          route.method === 'GET' ? undefined : {},
        )
        expect([nameOf(route), issuer, status, body?.detail]).toEqual([nameOf(route), issuer, 404, HIDDEN])
      }
    }
  })

  test('answers 404 to an owner for another client and for the issuer as a whole', async () => {
    for (const route of routes('path')) {
      const path = route.path.replace(':issuer', 'main').replace(':client_id', 'wiki')
      const filled = path.replaceAll(/:\w+/g, 'some')
      const { status, body } = await as(
        'owner',
        route.method,
        filled,
        route.method === 'GET' ? undefined : {},
      )
      expect([nameOf(route), status, body?.detail]).toEqual([nameOf(route), 404, HIDDEN])
    }
  })

  test('answers a key for its own issuer or client', async () => {
    expect((await as('idp', 'GET', '/v1/issuers/main')).status).toBe(200)
    expect((await as('idp', 'GET', '/v1/issuers/main/relying-parties/wiki')).status).toBe(200)
    expect((await as('owner', 'GET', '/v1/issuers/main/relying-parties/mail')).status).toBe(200)
  })
})

test('a route for unbound keys refuses a bound key, whatever its scopes', async () => {
  expect(routes('unbound').length).toBeGreaterThan(2)
  for (const route of routes('unbound')) {
    for (const who of ['idp', 'owner'] as const) {
      const { status } = await as(who, route.method, route.path.replaceAll(/:\w+/g, 'some'))
      expect([nameOf(route), who, status]).toEqual([nameOf(route), who, 403])
    }
  }
})

/** The sorted ids of a list. */
async function listed(who: 'idp' | 'owner', path: string): Promise<readonly string[]> {
  const { body } = await as(who, 'GET', path)
  return body.items.map((item: { id: string }) => item.id).toSorted()
}
const idsOf = (...clients: (keyof typeof dead)[]) => clients.map((client) => dead[client].id).toSorted()

async function listIsFiltered(path: string): Promise<void> {
  expect(await listed('idp', path)).toEqual(idsOf('mail', 'wiki'))
  expect(await listed('owner', path)).toEqual(idsOf('mail'))
  expect(await listed('idp', `${path}?issuer=other`)).toEqual([])
  expect(await listed('idp', `${path}?client_id=wiki`)).toEqual(idsOf('wiki'))
  expect(await listed('owner', `${path}?client_id=wiki`)).toEqual([])
  expect(await listed('owner', `${path}?issuer=other&client_id=mail`)).toEqual([])
}

async function oneIsFiltered(pathOf: (delivery: Delivery) => string): Promise<void> {
  const status = async (who: 'idp' | 'owner', client: keyof typeof dead) =>
    (await as(who, 'GET', pathOf(dead[client]))).status
  expect([await status('idp', 'wiki'), await status('idp', 'shop')]).toEqual([200, 404])
  expect([await status('owner', 'mail'), await status('owner', 'wiki')]).toEqual([200, 404])
}

/** Projects dead letters into the SLA as the bookkeeper does. */
async function projectIntoSla(db: Database, deliveries: Readonly<Record<string, Delivery>>): Promise<void> {
  const at = new Date()
  const ids = Object.values(deliveries).map(({ id }) => id as DeliveryId)
  const { rows } = await db.query<{ id: DeliveryId; bindingId: BindingId }>(
    'select id, binding_id as "bindingId" from deliveries where id = any($1)',
    [ids],
  )
  const owed = rows.map((row) => ({ ...row, acceptedMs: at.getTime() }))
  await projectSla(db, [
    { kind: 'planned', at, eventIds: [], owed },
    {
      kind: 'settled',
      at,
      settled: owed.map((delivery) => ({ ...delivery, state: 'dead_lettered', level: null, generation: 0 })),
    },
  ])
}

/** One case for every route that decides access itself. */
const OWN_CASES: Readonly<Record<string, () => Promise<void>>> = {
  async 'GET /v1/credential'() {
    const own = { name: 'admin', scopes: ['admin'], issuer: 'main', iss: ISS, expires_at: null }
    expect(await as('idp', 'GET', '/v1/credential')).toEqual({ status: 200, body: { ...own, clients: null } })
    expect(await as('owner', 'GET', '/v1/credential')).toEqual({
      status: 200,
      body: { ...own, clients: ['mail'] },
    })
    const unbound = { ...own, issuer: null, iss: null, clients: null }
    expect(await curfew.client.getCredential()).toEqual(unbound)
  },

  'GET /v1/deliveries': () => listIsFiltered('/v1/deliveries'),
  'GET /v1/dead-letters': () => listIsFiltered('/v1/dead-letters'),
  'GET /v1/deliveries/:id': () => oneIsFiltered(({ id }) => `/v1/deliveries/${id}`),
  'GET /v1/dead-letters/:id': () => oneIsFiltered(({ id }) => `/v1/dead-letters/${id}`),

  async 'GET /v1/logout-events/:id'() {
    await oneIsFiltered(({ event_id }) => `/v1/logout-events/${event_id}`)
    const event = { iss: ISS, sub: 'alice', clients: ['mail', 'wiki'] }
    const { id } = await curfew.client.postLogoutEvent(event)
    await using worker = { [Symbol.asyncDispose]: (await curfew.startWorker()).stop }
    expect(worker).toBeDefined()
    await curfew.client.getLogoutEvent(id, { wait: 10 })
    const clientsSeenBy = async (who: 'idp' | 'owner') =>
      (await as(who, 'GET', `/v1/logout-events/${id}`)).body.deliveries.map(
        ({ client_id }: Delivery) => client_id,
      )
    expect(await clientsSeenBy('idp')).toEqual(['mail', 'wiki'])
    expect(await clientsSeenBy('owner')).toEqual(['mail'])
  },

  async 'GET /v1/logout-events/:id/summary'() {
    await oneIsFiltered(({ event_id }) => `/v1/logout-events/${event_id}/summary`)
    const { id } = await curfew.client.postLogoutEvent({ iss: ISS, sub: 'carol', clients: ['mail', 'wiki'] })
    await using worker = { [Symbol.asyncDispose]: (await curfew.startWorker()).stop }
    expect(worker).toBeDefined()
    await eventually(() => curfew.client.getEventSummary(id))
    const seenBy = async (who: 'idp' | 'owner') => {
      const { body } = await as(who, 'GET', `/v1/logout-events/${id}/summary`)
      return [body.total, body.applications.map(({ client_id }: Delivery) => client_id)]
    }
    expect(await seenBy('idp')).toEqual([2, ['mail', 'wiki']])
    expect(await seenBy('owner')).toEqual([1, ['mail']])
  },

  async 'POST /v1/logout-events'() {
    const post = async (who: 'idp' | 'owner', body: unknown) => as(who, 'POST', '/v1/logout-events', body)
    const own = { iss: ISS, sub: 'bob' }
    const others = { iss: OTHER_ISS, sub: 'bob' }
    expect((await post('idp', own)).status).toBe(202)
    expect(await post('idp', others)).toMatchObject({ status: 403, body: { errors: [{ pointer: '/iss' }] } })
    expect((await post('idp', [others, others])).status).toBe(403)
    const mixed = await post('idp', [own, others])
    expect(mixed.status).toBe(207)
    expect(mixed.body).toMatchObject([{ status: 'accepted' }, { status: 'rejected' }])
    expect((await post('owner', own)).status).toBe(403)
    const issuerLogout = { iss: ISS, scope: 'issuer' }
    for (const query of ['', '?dry_run=true']) {
      const all = (who: 'idp' | 'owner', body: unknown) => as(who, 'POST', `/v1/logout-events${query}`, body)
      expect((await all('idp', issuerLogout)).status).toBe(query === '' ? 202 : 200)
      expect((await all('idp', { ...issuerLogout, iss: OTHER_ISS })).status).toBe(403)
      expect((await all('owner', issuerLogout)).status).toBe(403)
    }
  },

  async 'POST /v1/sessions'() {
    const post = (who: 'idp' | 'owner', body: unknown) => as(who, 'POST', '/v1/sessions', body)
    const own = sessionOf(ISS, 'mail')
    const others = sessionOf(OTHER_ISS, 'shop')
    expect((await post('idp', own)).status).toBe(202)
    expect(await post('idp', others)).toMatchObject({ status: 403, body: { errors: [{ pointer: '/iss' }] } })
    const mixed = await post('idp', [own, others])
    expect(mixed).toMatchObject({ status: 207, body: [{ status: 'accepted' }, { status: 'rejected' }] })
    expect((await post('owner', own)).status).toBe(403)
  },

  async 'DELETE /v1/sessions'() {
    const end = (who: 'idp' | 'owner', iss: string) =>
      as(who, 'DELETE', `/v1/sessions?${new URLSearchParams({ iss, sid: 's1', client_id: 'mail' })}`)
    expect((await end('idp', ISS)).status).toBe(202)
    expect((await end('idp', OTHER_ISS)).status).toBe(403)
    expect((await end('owner', ISS)).status).toBe(403)
  },

  async 'GET /v1/sessions'() {
    await startSessions()
    const clients = async (who: 'idp' | 'owner', iss: string, by: object) => {
      const { body } = await as(who, 'GET', `/v1/sessions?${new URLSearchParams({ iss, ...by })}`)
      return body.items.map(({ client_id }: { client_id: string }) => client_id)
    }
    await curfew.db.query("update sessions set started_at = now() - interval '1 day'")
    await curfew.db.query(
      `insert into session_lifetimes (relying_party_id, lifetimes, overlong_after_ms, overlong, counted_at)
       select id, array_fill(0::real, '{80}'), 3600000, 1, now() + interval '1 day' from relying_parties
       on conflict do nothing`,
    )
    for (const by of [{ sub: 'carol' }, { sid: 's1' }, { overlong: 'true' }]) {
      expect(await clients('idp', ISS, by)).toEqual(['mail', 'wiki'])
      expect(await clients('owner', ISS, by)).toEqual(['mail'])
      expect(await clients('owner', ISS, { ...by, client_id: 'wiki' })).toEqual([])
      for (const who of ['idp', 'owner'] as const) expect(await clients(who, OTHER_ISS, by)).toEqual([])
    }
  },

  async 'GET /v1/sessions/orphans'() {
    await startSessions()
    await curfew.db.query('update sessions set orphaned_at = now(), logout_event_id = gen_random_uuid()')
    const clients = async (who: 'idp' | 'owner', query = '') => {
      const { body } = await as(who, 'GET', `/v1/sessions/orphans${query}`)
      return body.items.map(({ client_id }: { client_id: string }) => client_id).toSorted()
    }
    expect([await clients('idp'), await clients('owner')]).toEqual([['mail', 'wiki'], ['mail']])
    expect(await clients('idp', '?issuer=other')).toEqual([])
    expect(await clients('owner', '?client_id=wiki')).toEqual([])
    expect(await clients('owner', '?issuer=other&client_id=mail')).toEqual([])
  },

  async 'POST /v1/dead-letters/replay'() {
    const preview = async (who: 'idp' | 'owner', filter: object) =>
      (await as(who, 'POST', '/v1/dead-letters/replay', { filter, dry_run: true })).body.total
    expect([await preview('idp', {}), await preview('owner', {})]).toEqual([2, 1])
    expect(await preview('owner', { client_id: 'wiki' })).toBe(0)
    expect(await preview('owner', { ids: idsOf('wiki', 'shop') })).toBe(0)
    expect(await preview('idp', { issuer: 'other' })).toBe(0)
    const job = await as('owner', 'POST', '/v1/dead-letters/replay', { filter: {} })
    expect(job.body).toMatchObject({ total: 1, filter: { issuer: 'main', client_id: 'mail' } })
  },

  async 'GET /v1/issuers'() {
    const names = async (who: 'idp' | 'owner') =>
      (await as(who, 'GET', '/v1/issuers')).body.items.map(({ name }: { name: string }) => name)
    expect([await names('idp'), await names('owner')]).toEqual([['main'], []])
  },

  async 'GET /v1/issuers/:issuer/relying-parties'() {
    const clients = async (who: 'idp' | 'owner') =>
      (await as(who, 'GET', '/v1/issuers/main/relying-parties')).body.items.map(
        ({ client_id }: { client_id: string }) => client_id,
      )
    expect([await clients('idp'), await clients('owner')]).toEqual([['mail', 'wiki'], ['mail']])
    for (const who of ['idp', 'owner'] as const) {
      for (const issuer of ['other', 'unknown'])
        expect((await as(who, 'GET', `/v1/issuers/${issuer}/relying-parties`)).status).toBe(404)
    }
  },

  async 'GET /v1/issuers/:issuer/resource-servers'() {
    await curfew.client.putResourceServer('main', 'orders-api')
    const servers = async (who: 'idp' | 'owner') =>
      (await as(who, 'GET', '/v1/issuers/main/resource-servers')).body.items.map(
        ({ client_id }: { client_id: string }) => client_id,
      )
    expect([await servers('idp'), await servers('owner')]).toEqual([['orders-api'], []])
    await curfew.client.deleteResourceServer('main', 'orders-api')
    for (const who of ['idp', 'owner'] as const) {
      for (const issuer of ['other', 'unknown'])
        expect((await as(who, 'GET', `/v1/issuers/${issuer}/resource-servers`)).status).toBe(404)
    }
  },

  async 'GET /v1/issuers/:issuer/revocations'() {
    for (const who of ['idp', 'owner'] as const) {
      // Its own issuer has no resource server.
      expect((await as(who, 'GET', '/v1/issuers/main/revocations')).status).toBe(409)
      for (const issuer of ['other', 'unknown'])
        expect((await as(who, 'GET', `/v1/issuers/${issuer}/revocations`)).status).toBe(404)
    }
  },

  async 'GET /v1/sla'() {
    await projectIntoSla(curfew.db, dead)
    const clients = async (who: 'idp' | 'owner', query = '') => {
      const { status, body } = await as(who, 'GET', `/v1/sla?group_by=relying_party${query}`)
      if (status !== 200) return status
      const groups: readonly { client_id: string }[] = body.groups
      return [body.issuer, body.broken, ...groups.map(({ client_id }) => client_id)]
    }
    expect(await clients('idp')).toEqual(['main', 2, 'mail', 'wiki'])
    expect(await clients('owner')).toEqual(['main', 1, 'mail'])
    expect(await clients('idp', '&client_id=wiki')).toEqual(['main', 1, 'wiki'])
    for (const query of ['&client_id=wiki', '&client_id=unknown', '&issuer=other', '&issuer=nothing'])
      expect([query, await clients('owner', query)]).toEqual([query, 404])
    expect(await clients('idp', '&issuer=other')).toBe(404)
    expect(await clients('idp', '&client_id=shop')).toBe(404)
    const byHour = await as('owner', 'GET', '/v1/sla?group_by=hour')
    expect(byHour.body).toMatchObject({ broken: 1, groups: [{ broken: 1 }] })
  },
  async 'GET /v1/logout-events/:id/receipt'() {
    await using bookkeeper = { [Symbol.asyncDispose]: (await curfew.startBookkeeper()).stop }
    expect(bookkeeper).toBeDefined()
    const path = ({ event_id }: Delivery) => `/v1/logout-events/${event_id}/receipt`
    const status = async (who: 'idp' | 'owner', client: keyof typeof dead) =>
      (await as(who, 'GET', path(dead[client]))).status
    // These dead letters were inserted and never settled, so they have no receipt and never get one.
    expect([await status('idp', 'wiki'), await status('idp', 'shop')]).toEqual([410, 404])
    // A receipt names all targets, so an owner of some of them gets none.
    expect([await status('owner', 'mail'), await status('owner', 'wiki')]).toEqual([403, 404])
  },
  async 'POST /v1/audits'() {
    await setUpAudits()
    const run = (who: 'idp' | 'owner', body: object) => as(who, 'POST', '/v1/audits', body)
    const clients = async (who: 'idp' | 'owner', body: object) => {
      const answer = await run(who, body)
      return answer.body.audits?.map(({ client_id }: { client_id: string }) => client_id) ?? answer.status
    }
    expect(await clients('idp', { issuer: 'main' })).toEqual(['mail', 'wiki'])
    expect(await clients('owner', { issuer: 'main' })).toEqual(['mail'])
    expect(await clients('owner', { issuer: 'main', clients: ['mail', 'wiki'] })).toBe(404)
    for (const issuer of ['other', 'unknown']) {
      expect(await clients('idp', { issuer })).toBe(404)
      expect(await clients('owner', { issuer, clients: ['mail'] })).toBe(404)
    }
  },
  async 'GET /v1/audits'() {
    await startAudits()
    const clients = async (who: 'idp' | 'owner', query = '') => {
      const { body } = await as(who, 'GET', `/v1/audits${query}`)
      return [...new Set(body.items.map(({ client_id }: { client_id: string }) => client_id))].toSorted()
    }
    expect([await clients('idp'), await clients('owner')]).toEqual([['mail', 'wiki'], ['mail']])
    expect(await clients('idp', '?issuer=other')).toEqual([])
    expect(await clients('owner', '?client_id=wiki')).toEqual([])
  },
  async 'GET /v1/audits/:id'() {
    const audits = await startAudits()
    const status = async (who: 'idp' | 'owner', client: string) =>
      (await as(who, 'GET', `/v1/audits/${audits.get(client)}`)).status
    expect([await status('idp', 'wiki'), await status('idp', 'shop')]).toEqual([200, 404])
    expect([await status('owner', 'mail'), await status('owner', 'wiki')]).toEqual([200, 404])
  },
  'GET /v1/log/checkpoint': () => logIsForAll('/v1/log/checkpoint'),
  'GET /v1/log/entries': () => logIsForAll('/v1/log/entries'),
  'GET /v1/log/entries/:index': () => logIsForAll('/v1/log/entries/0'),
  'GET /v1/log/proofs/inclusion': () => logIsForAll('/v1/log/proofs/inclusion?index=0'),
  'GET /v1/log/proofs/consistency': () => logIsForAll('/v1/log/proofs/consistency?from=0'),
  async 'GET /v1/issuer-logouts'() {
    const own = await loggedOut(ISS)
    const others = await loggedOut(OTHER_ISS)
    const list = async (who: 'idp' | 'owner', query = '') =>
      (await as(who, 'GET', `/v1/issuer-logouts${query}`)).body.items.map(({ id }: { id: string }) => id)
    expect(await list('owner')).toEqual([])
    expect(await list('idp')).toContain(own)
    expect(await list('idp')).not.toContain(others)
    expect(await list('idp', `?iss=${encodeURIComponent(ISS)}`)).toContain(own)
    expect(await list('idp', `?iss=${encodeURIComponent(OTHER_ISS)}`)).toEqual([])
  },
  'GET /v1/issuer-logouts/:id': () => issuerLogoutIsFiltered('GET'),
  'DELETE /v1/issuer-logouts/:id': () => issuerLogoutIsFiltered('DELETE'),

  async 'GET /v1/erasures/:id'() {
    const erase = async (issuer: string) => (await curfew.client.eraseSubject(issuer, 'unknown')).links.self
    const status = async (who: 'idp' | 'owner', path: string) => (await as(who, 'GET', path)).status
    const [own, others] = [await erase('main'), await erase('other')]
    expect([await status('idp', own), await status('idp', others)]).toEqual([200, 404])
    expect([await status('owner', own), await status('owner', others)]).toEqual([404, 404])
  },

  async 'GET /v1/quarantine'() {
    const [own] = [await quarantined(ISS), await quarantined(OTHER_ISS)]
    expect(await listed('idp', '/v1/quarantine?limit=1')).toEqual([own])
    expect(await listed('idp', '/v1/quarantine?issuer=other')).toEqual([])
    expect(await listed('owner', '/v1/quarantine')).toEqual([])
  },
  'GET /v1/quarantine/:id': () => quarantineIsFiltered('GET', '', 200),
  'POST /v1/quarantine/:id/requeue': () => quarantineIsFiltered('POST', '/requeue', 202),
  'DELETE /v1/quarantine/:id': () => quarantineIsFiltered('DELETE', '', 200),

  'GET /v1/replays/:id': () => replayIsFiltered('GET'),
  'DELETE /v1/replays/:id': () => replayIsFiltered('DELETE'),
}

async function setUpAudits(): Promise<void> {
  const setup: AuditSetupInput = {
    login: { kind: 'http', url: 'https://hook.example/', method: 'POST' },
    check: {
      url: 'https://rp.example/me',
      logged_in: { status: [200] },
      logged_out: { status: [401] },
    },
  }
  for (const [issuer, client] of [
    ['main', 'mail'],
    ['main', 'wiki'],
    ['other', 'shop'],
  ] as const)
    await curfew.client.putAuditSetup(issuer, client, setup)
}

/** Starts an audit of each client. @returns the ids by client. */
async function startAudits(): Promise<ReadonlyMap<string, string>> {
  await setUpAudits()
  const started = [
    ...(await curfew.client.runAudits({ issuer: 'main' })).audits,
    ...(await curfew.client.runAudits({ issuer: 'other' })).audits,
  ]
  return new Map(started.map(({ client_id, id }) => [client_id, id]))
}

const sessionOf = (iss: string, client_id: string) => ({
  ...{ iss, sub: 'carol', sid: 's1', client_id },
  expires_at: new Date(Date.now() + 3_600_000).toISOString(),
})

/** Starts one session at mail and at wiki of main, and one at shop of the other issuer. */
async function startSessions(): Promise<void> {
  const all = [sessionOf(ISS, 'mail'), sessionOf(ISS, 'wiki'), sessionOf(OTHER_ISS, 'shop')]
  await applySessions(curfew.db, {
    ends: [],
    starts: all.map(
      ({ client_id, expires_at, ...session }) =>
        ({
          ...{ ...session, clientId: client_id, device: null },
          ...{
            startedAt: new Date(),
            startedStated: true,
            acceptedAt: new Date(),
            expiresAt: new Date(expires_at),
          },
        }) as unknown as Session,
    ),
  })
}

/** Checks that every key may read the log. It holds only digests. */
async function logIsForAll(path: string): Promise<void> {
  await using bookkeeper = { [Symbol.asyncDispose]: (await curfew.startBookkeeper()).stop }
  expect(bookkeeper).toBeDefined()
  const { id } = await curfew.client.postLogoutEvent({ iss: 'https://unregistered.example', sub: 'alice' })
  await using worker = { [Symbol.asyncDispose]: (await curfew.startWorker()).stop }
  expect(worker).toBeDefined()
  await eventually(async () => {
    const receipt = await curfew.call('GET', `/v1/logout-events/${id}/receipt`)
    expect(receipt.status).toBe(200)
  })
  for (const who of ['idp', 'owner'] as const) {
    const response = await curfew.call('GET', path, undefined, { authorization: `Bearer ${keys[who]}` })
    expect(response.status).toBe(200)
    expect(await response.text()).not.toMatch(new RegExp(`alice|${id}`))
  }
}

/** Inserts a logout of a whole issuer as intake would plan it. @returns the id of its event. */
async function loggedOut(iss: string): Promise<string> {
  const { rows } = await curfew.db.query<{ id: string }>(
    `with event as (
       insert into events (id, given_id, digest, iss, scope, include_initiator, occurred_stated, requested_at, lane, occurred_at, accepted_at, planned_at, plan_basis)
       values (gen_random_uuid(), gen_random_uuid(), '', $1, 'issuer', false, true, now(), 'bulk', now(), now(), now(), 'sessions') returning id, given_id, iss),
     job as (
       insert into issuer_logouts (event_id, iss, requested_by, requested_at, state)
       select id, iss, 'test', now(), 'running' from event)
     select given_id as id from event`,
    [iss],
  )
  return rows[0]?.id ?? ''
}

async function issuerLogoutIsFiltered(method: 'GET' | 'DELETE'): Promise<void> {
  const [own, others] = [await loggedOut(ISS), await loggedOut(OTHER_ISS)]
  const status = async (who: 'idp' | 'owner', id: string) =>
    (await as(who, method, `/v1/issuer-logouts/${id}`)).status
  expect([await status('idp', own), await status('idp', others)]).toEqual([200, 404])
  expect([await status('owner', own), await status('owner', others)]).toEqual([404, 404])
}

/** Quarantines a record about an issuer. @returns its id. */
async function quarantined(iss: string): Promise<string> {
  const value = Buffer.from(JSON.stringify({ iss }))
  const record = { lane: 'interactive', position: randomUUID(), key: '', value, headers: {} } as const
  await quarantine(curfew.db, [{ record, kind: 'unreadable', reason: 'a test' }])
  const [latest] = (await curfew.client.listQuarantined({ limit: 1 })).items
  return latest?.id ?? ''
}

async function quarantineIsFiltered(
  method: 'GET' | 'POST' | 'DELETE',
  of: string,
  done: number,
): Promise<void> {
  const [own, others] = [await quarantined(ISS), await quarantined(OTHER_ISS)]
  const status = async (who: 'idp' | 'owner', id: string) =>
    (await as(who, method, `/v1/quarantine/${id}${of}`, method === 'POST' ? {} : undefined)).status
  expect([await status('owner', own), await status('owner', others)]).toEqual([404, 404])
  expect([await status('idp', own), await status('idp', others)]).toEqual([done, 404])
}

async function replayIsFiltered(method: 'GET' | 'DELETE'): Promise<void> {
  const start = async (filter: object) => (await curfew.client.startReplay({ filter })).links.self
  const status = async (who: 'idp' | 'owner', filter: object) =>
    (await as(who, method, await start(filter))).status
  expect(await status('idp', {})).toBe(404)
  expect(await status('idp', { issuer: 'other' })).toBe(404)
  expect(await status('idp', { issuer: 'main' })).toBe(200)
  expect(await status('owner', { issuer: 'main' })).toBe(404)
  expect(await status('owner', { issuer: 'main', client_id: 'wiki' })).toBe(404)
  expect(await status('owner', { issuer: 'main', client_id: 'mail' })).toBe(200)
}

describe('a route that decides access itself', () => {
  test('has a case in this file', () => {
    expect(routes('handler').map(nameOf).toSorted()).toEqual(Object.keys(OWN_CASES).toSorted())
  })

  test.each(Object.entries(OWN_CASES))('answers each key within its access filter: %s', (_name, check) =>
    check(),
  )
})
