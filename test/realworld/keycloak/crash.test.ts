import { afterAll, beforeAll, expect, test } from 'vitest'
import { eventually } from '../../support/curfew.ts'
import { describeWithKeycloak, type TestKeycloak } from '../../support/keycloak.ts'
import { type Standalone, startStandalone, useProcesses } from '../../support/processes.ts'
import { type Browser, openBrowser } from '../browser.ts'
import { type ExpressRp, openExpressRp } from '../express-rp.ts'
import { type Gateway, openGateway } from './gateway.ts'
import { openRealm, type Realm } from './realm.ts'

// Goal: no logout that Keycloak got a 200 for is lost when Curfew is killed.
// Method: SIGKILL to `curfew up` between the 200 and the delivery, and while logouts arrive; then the same command again.

await describeWithKeycloak('a SIGKILL of Curfew', define)

const ISSUER = 'keycloak'
const USERS = ['anna', 'ben', 'cleo', 'dan']

function define(keycloak: TestKeycloak): void {
  const processes = useProcesses('file')
  let dataFolder = ''
  let curfew: Standalone
  let realm: Realm
  let gateway: Gateway
  let rps: readonly ExpressRp[] = []

  async function start(adminKey: string | null): Promise<Standalone> {
    const env = { CURFEW_ALLOWED_NETWORKS: '127.0.0.0/8' }
    // Keycloak may start at the same time.
    const started = await startStandalone(processes, { dataFolder, adminKey, env, timeoutMs: 90_000 })
    gateway.leadTo(started.url)
    return started
  }
  async function killAndRestart(): Promise<void> {
    await curfew.process.kill()
    const { adminKey } = curfew
    curfew = { ...(await start(adminKey)), adminKey }
  }

  beforeAll(async () => {
    dataFolder = await processes.dataFolder()
    gateway = await openGateway()
    realm = await openRealm(keycloak)
    rps = [
      await openExpressRp(realm, { name: 'shop' }),
      await openExpressRp(realm, { name: 'notes', receiver: 'curfew' }),
    ]
    curfew = await start(null)
    await curfew.client.putIssuer(ISSUER, { iss: realm.iss })
    await curfew.client.addKey(ISSUER, { jwk: await realm.addPassiveKey(), sign_from: 'now' })
    for (const { clientId, logoutUri } of rps) {
      await curfew.client.putRelyingParty(ISSUER, clientId, {
        backchannel_logout_uri: logoutUri,
        id_token_signed_response_alg: 'RS256',
      })
      await realm.setLogoutUrl(clientId, `${gateway.url}/relay/${ISSUER}/${clientId}`)
    }
    for (const user of USERS) await realm.addUser(user)
  })
  afterAll(async () => {
    await processes.end()
    await Promise.all([gateway, ...rps].map((each) => each.close()))
  })

  async function loggedIn(user: string) {
    const browser = openBrowser()
    let sid = ''
    for (const rp of rps) sid = await rp.logIn(browser, user)
    return { browser, sid }
  }
  const acceptedOf = (sid: string) => gateway.posts.filter((post) => post.sid === sid && post.status === 200)
  /** How often an RP has acknowledged a logout of a session. */
  const acknowledgements = (clientId: string, sid: string) =>
    rps
      .find((rp) => rp.clientId === clientId)
      ?.received.filter(({ claims, status }) => claims.sid === sid && status < 300).length
  const usersOf = (browser: Browser) => Promise.all(rps.map((rp) => rp.userOf(browser)))

  /** Waits until the ledger has acknowledged each logout that was accepted. */
  async function allAcknowledged(sids: readonly string[]): Promise<void> {
    await eventually(async () => {
      const { items } = await curfew.client.listDeliveries({ issuer: ISSUER, limit: 500 })
      for (const { clientId, sid } of sids.flatMap(acceptedOf)) {
        const found = items.filter((one) => one.sid === sid && one.client_id === clientId)
        expect(found.map(({ state }) => state)).toEqual(['acknowledged'])
      }
    })
  }

  test('after the 200 and before the delivery loses no logout, and delivers each once', async () => {
    const sessions = await Promise.all(USERS.map(loggedIn))
    await Promise.all(rps.map((rp) => rp.pause()))
    await Promise.all(sessions.map(({ browser }) => realm.logOut(browser)))
    for (const { sid } of sessions) expect(acceptedOf(sid)).toHaveLength(rps.length)
    await killAndRestart()
    await Promise.all(rps.map((rp) => rp.resume()))
    await allAcknowledged(sessions.map(({ sid }) => sid))
    for (const { browser, sid } of sessions) {
      for (const { clientId } of rps) expect(acknowledgements(clientId, sid)).toBe(1)
      expect(await usersOf(browser)).toEqual([null, null])
    }
  })

  test('while logouts arrive loses none that Keycloak got a 200 for', async () => {
    const sessions = await Promise.all(USERS.map(loggedIn))
    const accepted = () => sessions.flatMap(({ sid }) => acceptedOf(sid))
    const logouts = Promise.all(sessions.map(({ browser }) => realm.logOut(browser)))
    await expect.poll(() => accepted().length, { interval: 1, timeout: 20_000 }).toBeGreaterThan(0)
    await killAndRestart()
    await logouts
    await allAcknowledged(sessions.map(({ sid }) => sid))
    // A delivery that the RP answered while Curfew was killed is repeated.
    for (const { clientId, sid } of accepted())
      expect(acknowledgements(clientId, sid)).toBeGreaterThanOrEqual(1)
  })
}
