import { afterAll, beforeAll, expect, test } from 'vitest'
import { describeWithKeycloak, type TestKeycloak } from '../../support/keycloak.ts'
import { openBrowser } from '../browser.ts'
import { type ExpressRp, openExpressRp } from '../express-rp.ts'
import { openRealm, type Realm } from './realm.ts'

// Goal: the pages about Keycloak are right about its own back-channel logout, which the relay replaces.
// Method: Keycloak posts to a real RP without Curfew.

await describeWithKeycloak('Keycloak without Curfew', define)

function define(keycloak: TestKeycloak): void {
  let realm: Realm
  let shop: ExpressRp
  let alice = ''
  beforeAll(async () => {
    realm = await openRealm(keycloak)
    alice = await realm.addUser('alice')
    shop = await openExpressRp(realm, { name: 'shop' })
  })
  afterAll(async () => {
    await shop.close()
    await realm.close()
  })

  async function loggedIn(user = 'alice') {
    const browser = openBrowser()
    const sid = await shop.logIn(browser, user)
    return { browser, sid }
  }

  test('posts a token that needs no lenient verification', async () => {
    const { browser, sid } = await loggedIn()
    await realm.logOut(browser)
    expect(await shop.userOf(browser)).toBeNull()
    const { header, claims, status } = shop.received.at(-1) ?? {}
    expect({ header, claims, status }).toMatchObject({
      header: { alg: 'RS256', typ: 'logout+jwt' },
      claims: { iss: realm.iss, aud: 'shop', sub: alice, sid },
      status: 204,
    })
    expect(Number(claims?.exp) - Number(claims?.iat)).toBe(120)
  })

  // If a new version fails here, correct docs/idp/keycloak.md.
  test.each([
    ['a user', (_sub: string, browser: ReturnType<typeof openBrowser>) => realm.logOut(browser)],
    ['an administrator', (sub: string) => realm.logOutUser(sub)],
  ])('forgets a logout of %s while the RP is unavailable, and reports success', async (_, logOut) => {
    const { browser } = await loggedIn()
    await shop.pause()
    const before = shop.received.length
    const page = await logOut(alice, browser)
    if (page !== undefined) expect(page.body).toContain('You are logged out')
    await shop.resume()
    expect(await shop.userOf(browser)).toBe(alice)
    // The session has ended at Keycloak, so a second logout notifies no client either.
    await realm.logOutUser(alice)
    expect(shop.received).toHaveLength(before)
    expect(await shop.userOf(browser)).toBe(alice)
  })

  test.each([
    ['disables a user', 'ben', (sub: string) => realm.admin('PUT', `/users/${sub}`, { enabled: false })],
    ['deletes a user', 'cleo', (sub: string) => realm.admin('DELETE', `/users/${sub}`)],
    ['signs out all sessions of the realm', 'dan', () => realm.admin('POST', '/logout-all')],
  ])('posts nothing when an administrator %s', async (_, user, act) => {
    const sub = await realm.addUser(user)
    const { browser } = await loggedIn(user)
    const before = shop.received.length
    await act(sub)
    expect(shop.received).toHaveLength(before)
    expect(await shop.userOf(browser)).toBe(sub)
  })
}
