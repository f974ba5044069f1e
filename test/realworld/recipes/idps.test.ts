import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { freePort } from '../../../deploy/kafka/ports.ts'
import { type Curfew, eventually, openCurfew } from '../../support/curfew.ts'
import { createProviderKey, openIdentityProvider, postToRelay } from '../../support/identity-provider.ts'
import { openRelyingParty, type RelyingParty } from '../../support/relying-party.ts'
import { serveProgram } from './recipe.ts'

// Goal: the relay takes the tokens of Auth0, and the programs of docs/idp/okta.md and docs/idp/entra.md turn requests of these
// products into logouts. Method: sends what the documentation of each product shows; the programs run as processes.

let curfew: Curfew
const opened: { close(): Promise<void> }[] = []

beforeAll(async () => {
  curfew = await openCurfew()
})
afterAll(async () => {
  await Promise.all(opened.map((each) => each.close()))
  await curfew?.stop()
})

/** Starts the program of a page for an issuer with one RP. */
async function start(page: string, { issuer, iss }: { readonly issuer: string; readonly iss: string }) {
  await curfew.client.putIssuer(issuer, { iss })
  const shop = await openRelyingParty(curfew, { clientId: `shop-${issuer}`, issuer, iss })
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const env = {
    CURFEW_URL: curfew.url,
    CURFEW_KEY: curfew.keyFor('events:write'),
    HOOK_SECRET: 'hook-secret',
  }
  const program = await serveProgram(page, { '8490': String(port) }, { url, env })
  opened.push(program, shop)
  return { url, shop }
}

describe('the program for Okta', () => {
  const ISS = 'https://org.okta.com/oauth2/default'
  const authorization = 'hook-secret'
  let url: string
  let shop: RelyingParty
  beforeAll(async () => {
    const started = await start('docs/idp/okta.md', { issuer: 'okta', iss: ISS })
    url = started.url
    shop = started.shop
  })

  /** An event hook with one event. Of `user.session.clear` the actor is an administrator. */
  const hook = (eventType: string, uuid: string) => ({
    eventType: 'com.okta.event_hook',
    eventTypeVersion: '1.0',
    cloudEventsVersion: '0.1',
    contentType: 'application/json',
    eventId: 'b5a188b9-5ece-4636-b041-482ffda96311',
    eventTime: '2026-11-21T09:00:01.000Z',
    source: 'https://org.okta.com/api/v1/eventHooks/who7abc',
    data: {
      events: [
        {
          uuid,
          published: new Date().toISOString(),
          eventType,
          version: '0',
          severity: 'INFO',
          actor: { id: '00u-admin', type: 'User', alternateId: 'admin@example.com', displayName: 'Admin' },
          outcome: { result: 'SUCCESS', reason: null },
          target: [{ id: '00u-jo', type: 'User', alternateId: 'jo@example.com', displayName: 'Jo' }],
          transaction: { type: 'WEB', id: 'c579', detail: {} },
          authenticationContext: { externalSessionId: '102O' },
          debugContext: { debugData: { EndedSessionId: 'idxf' } },
        },
      ],
    },
  })
  const post = (body: unknown, headers: Readonly<Record<string, string>> = { authorization }) =>
    fetch(url, { method: 'POST', headers, body: JSON.stringify(body) })

  test('answers the one-time verification', async () => {
    const headers = { authorization, 'x-okta-verification-challenge': 'challenge-1' }
    expect(await (await fetch(url, { headers })).json()).toEqual({ verification: 'challenge-1' })
  })

  test('makes one logout of the target of a hook, also if the hook comes twice', async () => {
    const id = crypto.randomUUID()
    for (let times = 0; times < 2; times++)
      expect((await post(hook('user.session.clear', id))).status).toBe(200)
    expect(await curfew.client.getLogoutEvent(id, { wait: 20 })).toMatchObject({
      ...{ sub: '00u-jo', scope: 'subject', reason: 'admin', acknowledged: 1, total: 1 },
    })
    expect(shop.received.map(({ claims }) => claims.sub)).toEqual(['00u-jo'])
  })

  test('posts nothing for another event, and refuses a hook without the secret', async () => {
    const [other, forged] = [crypto.randomUUID(), crypto.randomUUID()]
    expect((await post(hook('user.session.start', other))).status).toBe(200)
    expect((await post(hook('user.session.end', forged), { authorization: 'guessed' })).status).toBe(401)
    const last = crypto.randomUUID()
    expect((await post(hook('user.session.end', last))).status).toBe(200)
    expect(await curfew.client.getLogoutEvent(last, { wait: 20 })).toMatchObject({ acknowledged: 1 })
    expect(shop.received).toHaveLength(2)
  })
})

test('the program for Entra ends the session that the browser names', async () => {
  const iss = 'https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555/v2.0'
  const { url, shop } = await start('docs/idp/entra.md', { issuer: 'entra', iss })
  const sid = '007e3899-e104-731f-b675-0617c1f2dd72'
  const answer = await fetch(`${url}/front-channel-logout?sid=${sid}`)
  expect([answer.status, answer.headers.get('cache-control')]).toEqual([200, 'no-store'])
  const [{ claims } = { claims: null }] = await shop.told(1)
  expect(claims).toMatchObject({ iss, sid })
})

test('a token as Auth0 documents it passes the relay of a lenient issuer, and reaches the RP unchanged', async () => {
  const iss = 'https://tenant.eu.auth0.com/'
  await using auth0 = await openIdentityProvider({ iss })
  const key = await createProviderKey('tenant-key', 'RS256')
  auth0.keys = [key]
  const settings = { iss, jwks_uri: auth0.jwksUri }
  await curfew.client.putIssuer('auth0', settings)
  const shop = await openRelyingParty(curfew, {
    ...{ clientId: 'k3LmN0pQrStUvWxY', issuer: 'auth0', iss, algorithm: 'RS256' },
  })
  opened.push(shop)
  const claims = auth0.claims(shop.clientId, { sub: 'auth0|65f0c2d19a3b', trace_id: '5d1f0a9c3b7e2468' })
  const token = await key.sign(claims, { typ: 'JWT' })
  const post = () => postToRelay(curfew.url, { issuer: 'auth0', clientId: shop.clientId, token })
  expect((await post()).status).toBe(400)
  await curfew.client.putIssuer('auth0', { ...settings, lenient_logout_tokens: true })
  await eventually(async () => expect((await post()).status).toBe(200))
  const [received] = await shop.told(1)
  expect(new URLSearchParams(received?.body).get('logout_token')).toBe(token)
})
