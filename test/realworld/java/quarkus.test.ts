import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Curfew, eventually, openCurfew } from '../../support/curfew.ts'
import { type Browser, openBrowser } from '../browser.ts'
import { type Idp, openIdp } from '../idp.ts'
import { firstAttempt } from '../ledger.ts'
import { failedMusts, type RecipeRp } from '../recipes/recipe.ts'
import { describeWithJava } from './java.ts'
import { buildQuarkus, openQuarkusRp, type QuarkusRpOptions } from './quarkus-rp.ts'

// Goal: Quarkus, with the code and the properties of docs/rp/quarkus.md, ends exactly the sessions that Curfew names.
// Method: an application with that code; oidc-provider as the IdP; browsers that log in.

const BUILD_MS = 600_000
/** A test may start an application, on a busy machine. */
const TEST_MS = 120_000

await describeWithJava('Quarkus', () => describe('as its page says', { timeout: TEST_MS }, define))

function define(): void {
  let curfew: Curfew
  let idp: Idp
  let app: string
  let shop: RecipeRp
  const opened: { close(): Promise<void> }[] = []
  const open = async (options: QuarkusRpOptions = {}): Promise<RecipeRp> => {
    const rp = await openQuarkusRp(app, idp, options)
    opened.push(rp)
    return rp
  }
  beforeAll(async () => {
    app = await buildQuarkus()
    curfew = await openCurfew()
    idp = await openIdp(curfew, { name: 'provider' })
    opened.push(idp)
    shop = await open()
  }, BUILD_MS)
  afterAll(async () => {
    await curfew?.stop()
    await Promise.all(opened.map((resource) => resource.close()))
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
  const lastEvent = () => curfew.client.getLogoutEvent(idp.posted.at(-1) ?? '', { wait: 20 })

  test('ends only the session of the browser that logged out at the IdP, also if another user logs in before', async () => {
    const { browsers, sids } = await twoSessions(shop, 'alice')
    await idp.logOut(browsers[0])
    expect((await lastEvent()).deliveries).toMatchObject([
      { client_id: shop.clientId, sid: sids[0], state: 'acknowledged' },
    ])
    await shop.logIn(openBrowser(), 'bob')
    expect(await usersOf(shop, [browsers[1], browsers[0]])).toEqual(['alice', null])
  })

  test('ends every posted session of a subject, and no session of another user', async () => {
    await curfew.client.putRelyingParty(idp.name, shop.clientId, {
      backchannel_logout_uri: shop.logoutUri,
      backchannel_logout_session_required: true,
    })
    const { browsers, sids } = await twoSessions(shop, 'carol')
    const another = openBrowser()
    await shop.logIn(another, 'dave')
    const expires_at = new Date(Date.now() + 3_600_000).toISOString()
    for (const sid of sids)
      await curfew.client.postSession({
        ...{ iss: idp.iss, sub: 'carol', sid, client_id: shop.clientId, expires_at },
      })
    await eventually(async () => {
      const { items } = await curfew.client.listSessions({ iss: idp.iss, sub: 'carol' })
      expect(items).toHaveLength(2)
    })
    const { id } = await curfew.client.postLogoutEvent({
      iss: idp.iss,
      sub: 'carol',
      clients: [shop.clientId],
    })
    expect(await curfew.client.getLogoutEvent(id, { wait: 20 })).toMatchObject({ acknowledged: 2, total: 2 })
    expect(await usersOf(shop, [...browsers, another])).toEqual([null, null, 'dave'])
  })

  test('passes every must of the probe', async () => {
    expect(await failedMusts(curfew, idp, shop.clientId)).toEqual([])
  })

  test('forgets a logout at its own endpoint when another user logs in', async () => {
    const rp = await open({ ownEndpoint: true })
    const browser = openBrowser()
    const sid = await rp.logIn(browser, 'erin')
    const { id } = await curfew.client.postLogoutEvent({
      iss: idp.iss,
      sub: 'erin',
      sid,
      clients: [rp.clientId],
    })
    expect(await firstAttempt(curfew, id)).toMatchObject({ status: 200, outcome: 'acknowledged' })
    await rp.logIn(openBrowser(), 'frank')
    // If this fails because erin is logged out, docs/rp/quarkus.md may use the endpoint of Quarkus again.
    expect(await rp.userOf(browser)).toBe('erin')
  })
}
