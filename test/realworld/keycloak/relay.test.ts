import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { text } from 'node:stream/consumers'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Curfew, eventually, openCurfew } from '../../support/curfew.ts'
import { describeWithKeycloak, type TestKeycloak } from '../../support/keycloak.ts'
import { runCurfew, useProcesses } from '../../support/processes.ts'
import { type Browser, openBrowser } from '../browser.ts'
import { type ExpressRp, openExpressRp } from '../express-rp.ts'
import { defineRelay, RELAY_USERS } from '../relay/relay.contract.ts'
import { createAdmin } from './admin.ts'
import { openRealm, type Realm } from './realm.ts'

// Goal: Keycloak joins by a change of URLs. Each logout that Keycloak posts reaches its RP, once, also when the RP was unavailable.
// Method: the tests for every IdP behind the relay; then the steps of docs/idp/keycloak.md with Keycloak's own kcadm.sh, and three
// RPs with real logins: two with express-openid-connect, one with our SDK.

await describeWithKeycloak('Keycloak behind the relay', (keycloak) => {
  defineRelay({
    name: 'keycloak',
    lenient: false,
    async open() {
      const realm = await openRealm(keycloak)
      for (const user of RELAY_USERS) await realm.addUser(user)
      return realm
    },
  })
})
await describeWithKeycloak('Keycloak that joined by its recipe', define)

const ISSUER = 'keycloak'
/** Each call of kcadm.sh starts a Java machine. */
const PREPARE_MS = 300_000

function define(keycloak: TestKeycloak): void {
  const processes = useProcesses('file')
  let curfew: Curfew
  let realm: Realm
  let alice = ''
  let passiveKid: unknown
  let rps: readonly ExpressRp[] = []
  const rpNamed = (name: string) => {
    const found = rps.find(({ clientId }) => clientId === name)
    if (found === undefined) throw new Error(`there is no RP ${name}`)
    return found
  }
  const curfewCommand = async (...args: readonly string[]) => {
    const env = { CURFEW_URL: curfew.url, CURFEW_KEY: curfew.adminKey }
    const done = await runCurfew(processes, [...args, '--issuer', ISSUER], env)
    expect(done, done.stderr).toMatchObject({ code: 0 })
    return done.stdout
  }

  beforeAll(async () => {
    curfew = await openCurfew()
    realm = await openRealm(keycloak)
    alice = await realm.addUser('alice')
    rps = [
      await openExpressRp(realm, { name: 'shop' }),
      await openExpressRp(realm, { name: 'wiki' }),
      await openExpressRp(realm, { name: 'notes', receiver: 'curfew' }),
    ]
    await curfew.client.putIssuer(ISSUER, { iss: realm.iss })
    const folder = await processes.dataFolder()
    const jwk = await realm.addPassiveKey()
    passiveKid = jwk.kid
    await writeFile(join(folder, 'key.jwk'), JSON.stringify(jwk))
    await curfewCommand('keys', 'import', join(folder, 'key.jwk'), '--sign-now')
    await writeFile(join(folder, 'realm.json'), JSON.stringify({ clients: await realm.exportClients() }))
    const imported = await curfewCommand(
      'rp',
      'import',
      join(folder, 'realm.json'),
      '--relay',
      '--json',
      '--url',
      curfew.url,
    )
    const { relay } = JSON.parse(imported) as { relay: { calls: readonly { readonly script: string }[] } }
    await runCalls(keycloak, folder, relay.calls[0]?.script ?? '')
  }, PREPARE_MS)
  afterAll(async () => {
    await processes.end()
    await curfew.stop()
    await Promise.all([...rps, realm].map((each) => each.close()))
  })

  const relayUrl = (clientId: string) => `${curfew.url}/relay/${ISSUER}/${clientId}`

  /** Opens a new browser, and logs alice in to each RP. */
  async function loggedIn() {
    const browser = openBrowser()
    const sids = []
    for (const rp of rps) sids.push(await rp.logIn(browser, 'alice'))
    expect(await usersOf(browser)).toEqual([alice, alice, alice])
    // Keycloak has one sid for all clients of a session.
    expect(new Set(sids).size).toBe(1)
    return { browser, sid: sids[0] ?? '' }
  }
  const usersOf = (browser: Browser) => Promise.all(rps.map((rp) => rp.userOf(browser)))

  const deliveriesOf = async (sid: string) =>
    (await curfew.client.listDeliveries({ issuer: ISSUER, limit: 500 })).items.filter(
      (one) => one.sid === sid,
    )

  /** Waits until every delivery for a session is settled. @returns client and state of each. */
  function settled(sid: string, count = rps.length) {
    return eventually(async () => {
      const deliveries = await deliveriesOf(sid)
      expect(deliveries).toHaveLength(count)
      for (const { state } of deliveries) expect(state).not.toMatch(/pending|in_flight/)
      return deliveries
        .map(({ client_id, state, attempt_count }) => ({ client_id, state, attempt_count }))
        .toSorted((a, b) => a.client_id.localeCompare(b.client_id))
    })
  }
  const receivedOf = (rp: ExpressRp, sid: string) => rp.received.filter(({ claims }) => claims.sid === sid)

  test.each([
    ['a user', (browser: Browser) => realm.logOut(browser)],
    ['an administrator', () => realm.logOutUser(alice)],
    ['an RP', (browser: Browser) => rpNamed('shop').logOut(browser)],
  ])(
    'a logout of %s ends the session at each RP, by the one token that Keycloak made for it',
    async (_, logOut) => {
      const { browser, sid } = await loggedIn()
      await logOut(browser)
      expect(await settled(sid)).toEqual(
        ['notes', 'shop', 'wiki'].map((client_id) => ({
          client_id,
          state: 'acknowledged',
          attempt_count: 1,
        })),
      )
      expect(await usersOf(browser)).toEqual([null, null, null])
      for (const rp of rps) {
        const [first, ...more] = receivedOf(rp, sid)
        expect(more).toEqual([])
        // Keycloak alone has this key and this claim.
        expect(first).toMatchObject({ claims: { aud: rp.clientId, typ: 'Logout' } })
        expect(first?.header.kid).not.toBe(passiveKid)
      }
    },
  )

  test('a session that an administrator ends is the only one that ends', async () => {
    const [laptop, phone] = [await loggedIn(), await loggedIn()]
    await realm.deleteSession(laptop.sid)
    await settled(laptop.sid)
    expect(await usersOf(laptop.browser)).toEqual([null, null, null])
    // express-openid-connect ends every session of the user, because the tokens of Keycloak have sid and sub.
    expect(await rpNamed('notes').userOf(phone.browser)).toBe(alice)
    await realm.logOutUser(alice)
    await settled(phone.sid)
    expect(await usersOf(phone.browser)).toEqual([null, null, null])
  })

  test('an RP that is unavailable during the logout is notified once it is available', async () => {
    const { browser, sid } = await loggedIn()
    const shop = rpNamed('shop')
    await shop.pause()
    const page = await realm.logOut(browser)
    expect(page.body).toContain('You are logged out')
    await eventually(async () => {
      const [toShop] = (await deliveriesOf(sid)).filter(({ client_id }) => client_id === 'shop')
      expect(toShop?.attempt_count).toBeGreaterThan(0)
    })
    await shop.resume()
    await settled(sid)
    expect(receivedOf(shop, sid)).toHaveLength(1)
    expect(await usersOf(browser)).toEqual([null, null, null])
  })

  test.each(['shop', 'notes'])(
    'after an answer 503, %s accepts a token of the passive key of the realm',
    async (name) => {
      const { browser, sid } = await loggedIn()
      const rp = rpNamed(name)
      rp.failNext(503)
      await realm.logOut(browser)
      await settled(sid)
      const [first, second, ...more] = receivedOf(rp, sid)
      expect(more).toEqual([])
      expect(first).toMatchObject({ status: 503, claims: { typ: 'Logout' } })
      expect(second).toMatchObject({ header: { kid: passiveKid } })
      expect(second?.claims.jti).not.toBe(first?.claims.jti)
      expect(await usersOf(browser)).toEqual([null, null, null])
    },
  )

  test('a token at the URL of another client is refused, and the log names both', async () => {
    const { browser, sid } = await loggedIn()
    await realm.repoint('wiki', relayUrl('shop'))
    await realm.logOut(browser)
    await realm.repoint('wiki', relayUrl('wiki'))
    await settled(sid, 2)
    expect(await rpNamed('wiki').userOf(browser)).toBe(alice)
    expect(receivedOf(rpNamed('shop'), sid)).toHaveLength(1)
    const refusal = curfew.lines.find((line) => line.includes('relay.refused'))
    expect(JSON.parse(refusal ?? '{}')).toMatchObject({
      ...{ issuer: ISSUER, client_id: 'shop', fault: 'aud does not contain shop' },
    })
  })

  test('an RP that hangs does not delay the logout of the user', async () => {
    const { browser, sid } = await loggedIn()
    const release = rpNamed('shop').holdNext()
    // Keycloak itself would wait for five seconds.
    const startedMs = performance.now()
    await realm.logOut(browser)
    expect(performance.now() - startedMs).toBeLessThan(4_000)
    release()
    await settled(sid)
    expect(await usersOf(browser)).toEqual([null, null, null])
  })
}

/** Logs in the administrator with Keycloak's own `kcadm.sh`, and runs the script with it. */
async function runCalls(keycloak: TestKeycloak, folder: string, script: string): Promise<void> {
  const { url, admin, bin } = keycloak
  // Its session lasts for a minute by default, which a busy machine may need for one call.
  await createAdmin(keycloak)('PUT', '/master', { accessTokenLifespan: 600 })
  const login = `kcadm.sh config credentials --server ${url} --realm master --user ${admin.username} --password ${admin.password}`
  const shell = spawn('sh', ['-ec', `${login}\n${script}`], {
    stdio: ['ignore', 'pipe', 'pipe'],
    // kcadm.sh keeps its session in the home folder.
    env: { ...process.env, PATH: `${bin}${delimiter}${process.env.PATH}`, KC_OPTS: `-Duser.home=${folder}` },
  })
  const [output, complaints, [code]] = await Promise.all([
    text(shell.stdout),
    text(shell.stderr),
    once(shell, 'exit'),
  ])
  expect(code, output + complaints).toBe(0)
}
