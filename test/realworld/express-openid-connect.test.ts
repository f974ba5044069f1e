import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Curfew, openCurfew } from '../support/curfew.ts'
import { type Browser, openBrowser } from './browser.ts'
import { type ExpressRp, type ExpressRpOptions, openExpressRp } from './express-rp.ts'
import { type Idp, openIdp } from './idp.ts'
import { firstAttempt } from './ledger.ts'

// Goal: third-party RPs end exactly the sessions that Curfew's logouts name.
// Method: oidc-provider as the IdP, which posts its logouts to Curfew, and whose keys Curfew signs with; express-openid-connect
// as RPs, which fetch the key set of the IdP; browsers that log in with the forms of the IdP.

let curfew: Curfew
let idp: Idp
let shop: ExpressRp
let wiki: ExpressRp
const opened: { close(): Promise<void> }[] = []
const rp = async (at: Idp, options: ExpressRpOptions) => {
  const made = await openExpressRp(at, options)
  opened.push(made)
  return made
}
const idpNamed = async (name: string, options: { importKeys?: boolean } = {}) => {
  const made = await openIdp(curfew, { name, ...options })
  opened.push(made)
  return made
}

beforeAll(async () => {
  curfew = await openCurfew()
  idp = await idpNamed('provider')
  shop = await rp(idp, { name: 'shop', settings: { subject_claims: 'sid' } })
  wiki = await rp(idp, { name: 'wiki', algorithm: 'ES256', settings: { subject_claims: 'sid' } })
})
afterAll(async () => {
  await curfew.stop()
  await Promise.all(opened.map((resource) => resource.close()))
})

/** The users of this browser's sessions at the shop and the wiki. */
const usersOf = async (browser: Browser) => [await shop.userOf(browser), await wiki.userOf(browser)]

/** Opens a new browser and logs this user in to the shop and the wiki. */
async function loggedIn(user: string) {
  const browser = openBrowser()
  const sids = [await shop.logIn(browser, user), await wiki.logIn(browser, user)]
  expect(await usersOf(browser)).toEqual([user, user])
  return { browser, sids }
}

/** The settled deliveries of the events that the IdP posts during an action. */
async function deliveriesOf(at: Idp, action: () => Promise<unknown>) {
  const before = at.posted.length
  await action()
  const events = await Promise.all(
    at.posted.slice(before).map((id) => curfew.client.getLogoutEvent(id, { wait: 20 })),
  )
  return events.flatMap(({ deliveries }) => deliveries)
}

describe('a logout at the IdP', () => {
  test('ends that session at every RP under the sid of the RP, and no other session of the user', async () => {
    const [laptop, phone] = [await loggedIn('alice'), await loggedIn('alice')]
    expect(new Set([...laptop.sids, ...phone.sids]).size).toBe(4)

    const deliveries = await deliveriesOf(idp, () => idp.logOut(laptop.browser))
    expect(deliveries.map(({ client_id, sid, state }) => [client_id, sid, state])).toEqual([
      [shop.clientId, laptop.sids[0], 'acknowledged'],
      [wiki.clientId, laptop.sids[1], 'acknowledged'],
    ])
    expect(await usersOf(laptop.browser)).toEqual([null, null])
    expect(await usersOf(phone.browser)).toEqual(['alice', 'alice'])
  })

  test('that an RP started notifies the other RPs, and skips the initiator', async () => {
    const { browser } = await loggedIn('bob')
    const deliveries = await deliveriesOf(idp, async () => {
      const end = await browser.submit(await shop.logOut(browser), { logout: 'yes' })
      expect(new URL(end.url).origin).toBe(shop.url)
    })
    expect(deliveries.map(({ client_id, state }) => [client_id, state])).toEqual([
      [wiki.clientId, 'acknowledged'],
    ])
    expect(await usersOf(browser)).toEqual([null, null])
  })
})

test('a logout of a subject ends every session of that user, and no session of another user', async () => {
  const carol = [await loggedIn('carol'), await loggedIn('carol')]
  const dave = await loggedIn('dave')
  const { id } = await curfew.client.postLogoutEvent({ iss: idp.iss, sub: 'carol', scope: 'subject' })
  expect(await curfew.client.getLogoutEvent(id, { wait: 20 })).toMatchObject({ acknowledged: 2, total: 2 })
  for (const { browser } of carol) expect(await usersOf(browser)).toEqual([null, null])
  expect(await usersOf(dave.browser)).toEqual(['dave', 'dave'])
})

test('express-openid-connect ends every session of the user for a token with sid and sub', async () => {
  const both = await rp(idp, { name: 'both', settings: { subject_claims: 'both' } })
  const [laptop, phone] = [openBrowser(), openBrowser()]
  const [sid] = [await both.logIn(laptop, 'erin'), await both.logIn(phone, 'erin')]
  const deliveries = await deliveriesOf(idp, () => idp.logOut(laptop))
  expect(deliveries).toMatchObject([{ client_id: both.clientId, sid, state: 'acknowledged' }])
  // If this fails because the phone is still logged in, remove the advice to set "subject_claims": "sid" from docs/rp/express-openid-connect.md.
  expect([await both.userOf(laptop), await both.userOf(phone)]).toEqual([null, null])
})

test('a token of a key outside the key set of the IdP ends no session, and the ledger has the error of the RP', async () => {
  const stranger = await idpNamed('stranger', { importKeys: false })
  const strict = await rp(stranger, { name: 'strict' })
  const browser = openBrowser()
  const sid = await strict.logIn(browser, 'frank')
  const { id } = await curfew.client.postLogoutEvent({ iss: stranger.iss, sub: 'frank', sid })
  expect(await firstAttempt(curfew, id)).toMatchObject({
    status: 400,
    error: 'invalid_request',
    error_description: 'no applicable key found in the JSON Web Key Set',
  })
  expect(await strict.userOf(browser)).toBe('frank')
})
