import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Curfew, eventually, openCurfew } from '../../support/curfew.ts'
import { describeWithKeycloak, type TestKeycloak } from '../../support/keycloak.ts'
import { type Browser, openBrowser } from '../browser.ts'
import { type ExpressRp, openExpressRp } from '../express-rp.ts'
import type { LoginIdp } from '../idp.ts'
import { type Listener, listen } from '../listener.ts'
import { openRealm, type Realm } from './realm.ts'

// Goal: a logout passes from one IdP to a Keycloak that brokers it, and on to its RPs; also when the broker was unavailable.
// Method: the steps of docs/idp/keycloak-broker.md with two realms, an RP at the upstream realm and two at the broker. The tests
// reach the logout endpoint of the broker through a proxy, which can fail.

await describeWithKeycloak('Keycloak as a broker', define)

const BROKER_CLIENT = 'company-broker'

function define(keycloak: TestKeycloak): void {
  let curfew: Curfew
  let upstream: Realm
  let broker: Realm
  let passiveKid: unknown
  let endpoint: Listener
  let endpointFailures = 0
  const rps: ExpressRp[] = []

  beforeAll(async () => {
    curfew = await openCurfew()
    upstream = await openRealm(keycloak)
    broker = await openRealm(keycloak)
    await upstream.addUser('alice')
    endpoint = await listen()
    const logoutUri = `${broker.iss}/protocol/openid-connect/logout/backchannel-logout`
    endpoint.serve(async (incoming, outgoing) => {
      if (endpointFailures > 0) {
        endpointFailures -= 1
        outgoing.writeHead(503).end()
        return
      }
      const headers = { 'content-type': incoming.headers['content-type'] ?? '' }
      const chunks = await incoming.toArray()
      const answer = await fetch(logoutUri, { method: 'POST', headers, body: Buffer.concat(chunks) })
      outgoing.writeHead(answer.status).end(await answer.text())
    })
    const client = await upstream.register({
      client_name: BROKER_CLIENT,
      redirect_uris: [`${broker.iss}/broker/upstream/endpoint`],
      backchannel_logout_uri: endpoint.url,
      id_token_signed_response_alg: 'RS256',
    })
    await broker.addIdentityProvider('upstream', upstream, client)
    const throughBroker: LoginIdp = {
      ...broker,
      logIn: async (browser, page, user) =>
        upstream.logIn(browser, await browser.follow(page, /\/broker\/upstream\/login/), user),
    }
    rps.push(
      await openExpressRp(upstream, { name: 'intranet' }),
      await openExpressRp(throughBroker, { name: 'shop' }),
      await openExpressRp(throughBroker, { name: 'notes', receiver: 'curfew' }),
    )
    for (const [name, realm] of [
      ['upstream', upstream],
      ['broker', broker],
    ] as const) {
      await curfew.client.putIssuer(name, { iss: realm.iss })
      const jwk = await realm.addPassiveKey()
      await curfew.client.addKey(name, { jwk, sign_from: 'now' })
      if (realm === upstream) passiveKid = jwk.kid
      const clients = await realm.exportClients()
      await curfew.client.importRelyingParties(
        name,
        clients.map((client) => `${JSON.stringify(client)}\n`).join(''),
      )
    }
    await relay('upstream', upstream, [BROKER_CLIENT, 'intranet'])
    await relay('broker', broker, ['shop', 'notes'])
  })
  afterAll(async () => {
    await curfew.stop()
    await Promise.all([...rps, endpoint, upstream, broker].map((each) => each.close()))
  })

  async function relay(issuer: string, realm: Realm, clientIds: readonly string[]): Promise<void> {
    for (const clientId of clientIds)
      await realm.repoint(clientId, `${curfew.url}/relay/${issuer}/${clientId}`)
  }

  /** Opens a new browser, and logs alice in to each RP. @returns the sid at the broker. */
  async function loggedIn() {
    const browser = openBrowser()
    const sids = []
    for (const rp of rps) sids.push(await rp.logIn(browser, 'alice'))
    const users = await usersOf(browser)
    expect(users).not.toContain(null)
    return { browser, brokerSid: sids.at(-1) ?? '', brokerSub: users.at(-1) ?? '' }
  }
  const usersOf = (browser: Browser) => Promise.all(rps.map((rp) => rp.userOf(browser)))
  const allLoggedOut = (browser: Browser) =>
    eventually(async () => expect(await usersOf(browser)).toEqual([null, null, null]))
  const receivedOf = (name: string, sid: string) =>
    rps.find(({ clientId }) => clientId === name)?.received.filter(({ claims }) => claims.sid === sid) ?? []

  test('a logout at the upstream IdP ends the sessions at the RPs of both', async () => {
    const { browser } = await loggedIn()
    await upstream.logOut(browser)
    await allLoggedOut(browser)
  })

  test('a broker that answered 503 accepts a token of the passive key, and its RPs are notified', async () => {
    const { browser } = await loggedIn()
    endpointFailures = 1
    await upstream.logOut(browser)
    await allLoggedOut(browser)
    expect(endpointFailures).toBe(0)
    await eventually(async () => {
      const { items } = await curfew.client.listDeliveries({ issuer: 'upstream', client_id: BROKER_CLIENT })
      expect(items[0]).toMatchObject({ state: 'acknowledged', attempt_count: 2 })
    })
    expect((await curfew.client.getJwks('upstream')).keys).toMatchObject([{ kid: passiveKid }])
  })

  test('a logout at an RP of the broker ends the sessions upstream, and returns the user to the RP', async () => {
    const { browser } = await loggedIn()
    const shop = rps.find(({ clientId }) => clientId === 'shop')
    const page = await shop?.logOut(browser)
    expect([page?.status, new URL(page?.url ?? '').origin]).toEqual([200, shop?.url])
    await allLoggedOut(browser)
  })

  test('a logout by an administrator of the broker ends the sessions of both, and delivers each token once', async () => {
    const { browser, brokerSid, brokerSub } = await loggedIn()
    // The broker notifies its RPs and ends the upstream session. The upstream IdP notifies the broker, which may notify its RPs again.
    await broker.logOutUser(brokerSub)
    await allLoggedOut(browser)
    await eventually(async () => {
      for (const issuer of ['upstream', 'broker']) {
        const { items } = await curfew.client.listDeliveries({ issuer, limit: 500 })
        expect(items.filter(({ state }) => state !== 'acknowledged')).toEqual([])
      }
    })
    for (const name of ['shop', 'notes']) {
      const tokens = receivedOf(name, brokerSid).map(({ claims }) => claims.jti)
      expect(tokens.length).toBeGreaterThan(0)
      expect(new Set(tokens).size).toBe(tokens.length)
    }
  })
}
