import { request } from 'node:http'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Curfew, openCurfew } from '../../support/curfew.ts'
import { type Browser, openBrowser } from '../browser.ts'
import { type Idp, openIdp } from '../idp.ts'
import { firstAttempt } from '../ledger.ts'
import { listen } from '../listener.ts'
import { failedMusts, type RecipeRp } from '../recipes/recipe.ts'
import { describeWithJava } from './java.ts'
import { compileSpring, openSpringRp, type SpringApp, type SpringRpOptions } from './spring-rp.ts'

// Goal: Spring Security, configured as docs/rp/spring.md says, ends exactly the sessions that Curfew names.
// Method: a Spring Boot application with the code and the properties of that page; oidc-provider as the IdP; browsers that log in.

const BUILD_MS = 600_000
/** A test may start an application, on a busy machine. */
const TEST_MS = 120_000
const VERSIONS = ['3.5.7', '4.0.7']

await describeWithJava('Spring Boot', () => describe.each(VERSIONS)('%s', { timeout: TEST_MS }, define))

function define(version: string): void {
  let curfew: Curfew
  let idp: Idp
  let app: SpringApp
  let shop: RecipeRp
  const opened: { close(): Promise<void> }[] = []
  const open = async (options: SpringRpOptions = {}): Promise<RecipeRp> => {
    const rp = await openSpringRp(app, idp, options)
    opened.push(rp)
    return rp
  }
  beforeAll(async () => {
    app = await compileSpring(version)
    curfew = await openCurfew()
    idp = await openIdp(curfew, { name: 'provider' })
    opened.push(idp)
    shop = await open()
  }, BUILD_MS)
  afterAll(async () => {
    await curfew?.stop()
    await Promise.all(opened.map((resource) => resource.close()))
    await app?.remove()
  })

  /** Opens two browsers and logs the same user in to both. */
  async function twoSessions(rp: RecipeRp, user: string) {
    const browsers = [openBrowser(), openBrowser()] as const
    const sids = [await rp.logIn(browsers[0], user), await rp.logIn(browsers[1], user)]
    expect(await usersOf(rp, browsers)).toEqual([user, user])
    return { browsers, sids }
  }
  const usersOf = (rp: RecipeRp, browsers: readonly Browser[]) =>
    Promise.all(browsers.map((browser) => rp.userOf(browser)))
  const register = (rp: RecipeRp, uri: string) =>
    curfew.client.putRelyingParty(idp.name, rp.clientId, {
      backchannel_logout_uri: uri,
      id_token_signed_response_alg: 'RS256',
    })

  test('ends only the session of the browser that logged out at the IdP', async () => {
    const { browsers, sids } = await twoSessions(shop, 'alice')
    await idp.logOut(browsers[0])
    const event = await curfew.client.getLogoutEvent(idp.posted.at(-1) ?? '', { wait: 20 })
    expect(event.deliveries).toMatchObject([
      { client_id: shop.clientId, sid: sids[0], state: 'acknowledged' },
    ])
    expect(await usersOf(shop, browsers)).toEqual([null, 'alice'])
  })

  test('ends every session of a subject, and no session of another user', async () => {
    const { browsers } = await twoSessions(shop, 'bob')
    const another = openBrowser()
    await shop.logIn(another, 'carol')
    const { id } = await curfew.client.postLogoutEvent({ iss: idp.iss, sub: 'bob', clients: [shop.clientId] })
    expect(await curfew.client.getLogoutEvent(id, { wait: 20 })).toMatchObject({ acknowledged: 1 })
    expect(await usersOf(shop, [...browsers, another])).toEqual([null, null, 'carol'])
  })

  test('refuses a logout token in ES256 although its ID tokens are in ES256, and accepts RS256', async () => {
    const rp = await open({ algorithm: 'ES256' })
    const browser = openBrowser()
    const sid = await rp.logIn(browser, 'dave')
    const logout = { iss: idp.iss, sub: 'dave', sid, clients: [rp.clientId] }
    const refused = await curfew.client.postLogoutEvent(logout)
    // If this fails because the token was accepted, remove the advice to register RS256 from docs/rp/spring.md.
    expect(await firstAttempt(curfew, refused.id)).toMatchObject({ status: 400, outcome: 'refused' })
    expect(await rp.userOf(browser)).toBe('dave')
    await register(rp, rp.logoutUri)
    const { id } = await curfew.client.postLogoutEvent(logout)
    expect(await curfew.client.getLogoutEvent(id, { wait: 20 })).toMatchObject({ acknowledged: 1 })
    expect(await rp.userOf(browser)).toBeNull()
  })

  test('ends a session whose cookie has another name, behind a proxy that passes on its own host', async () => {
    const rp = await open({ args: ['--server.servlet.session.cookie.name=SHOP'] })
    const proxy = await listen()
    opened.push(proxy)
    proxy.serve((incoming, outgoing) => {
      const headers = { ...incoming.headers, host: 'shop.invalid' }
      const passed = request(rp.logoutUri, { method: incoming.method ?? '', headers }, (answer) => {
        outgoing.writeHead(answer.statusCode ?? 500, answer.headers)
        answer.pipe(outgoing)
      })
      incoming.pipe(passed)
    })
    await register(rp, `${proxy.url}/`)
    const browser = openBrowser()
    await rp.logIn(browser, 'erin')
    await idp.logOut(browser)
    const event = await curfew.client.getLogoutEvent(idp.posted.at(-1) ?? '', { wait: 20 })
    expect(event.deliveries).toMatchObject([{ client_id: rp.clientId, state: 'acknowledged' }])
    expect(await rp.userOf(browser)).toBeNull()
  })

  test('passes every must of the probe but the answer to an event that is no object', async () => {
    // If this fails because the list is empty, correct the section about the probe in docs/rp/spring.md.
    expect(await failedMusts(curfew, idp, shop.clientId)).toEqual(['refusal_status'])
  })
}
