import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Curfew, openCurfew } from '../support/curfew.ts'
import { type Browser, openBrowser } from './browser.ts'
import { type ExpressRp, type ExpressRpOptions, openExpressRp } from './express-rp.ts'
import { type Idp, openIdp } from './idp.ts'
import { firstAttempt } from './ledger.ts'

// Goal: what others wrote and run ends sessions when we say so, and only those that we said.
// Method: oidc-provider as the IdP, whose own sending is replaced by a post to us and whose keys we sign with;
// express-openid-connect as RPs that fetch the IdP's key set; browsers that log in by its forms.

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
  await Promise.all(opened.map((each) => each.close()))
})

/** Who this browser is to the shop and to the wiki. */
const usersOf = async (browser: Browser) => [await shop.userOf(browser), await wiki.userOf(browser)]

/** A new browser in which this user is logged in to both. */
async function loggedIn(user: string) {
  const browser = openBrowser()
  const sids = [await shop.logIn(browser, user), await wiki.logIn(browser, user)]
  expect(await usersOf(browser)).toEqual([user, user])
  return { browser, sids }
}

/** Deliveries of what the IdP posted while this was done, all of them settled. */
async function deliveriesOf(at: Idp, action: () => Promise<unknown>) {
  const before = at.posted.length
  await action()
  const events = await Promise.all(
    at.posted.slice(before).map((id) => curfew.client.getLogoutEvent(id, { wait: 20 })),
  )
  return events.flatMap(({ deliveries }) => deliveries)
}

describe('a logout at the IdP', () => {
  test('ends that session at every RP, each under the sid that it knows, and no other of the same user', async () => {
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

  test('that an RP started tells the others; that one has seen to itself', async () => {
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

test('a logout of a subject ends every session of that user, and none of another', async () => {
  const carol = [await loggedIn('carol'), await loggedIn('carol')]
  const dave = await loggedIn('dave')
  const { id } = await curfew.client.postLogoutEvent({ iss: idp.iss, sub: 'carol', scope: 'subject' })
  expect(await curfew.client.getLogoutEvent(id, { wait: 20 })).toMatchObject({ acknowledged: 2, total: 2 })
  for (const { browser } of carol) expect(await usersOf(browser)).toEqual([null, null])
  expect(await usersOf(dave.browser)).toEqual(['dave', 'dave'])
})

test('express-openid-connect takes a token with sid and sub for every session of the user', async () => {
  const both = await rp(idp, { name: 'both', settings: { subject_claims: 'both' } })
  const [laptop, phone] = [openBrowser(), openBrowser()]
  const [sid] = [await both.logIn(laptop, 'erin'), await both.logIn(phone, 'erin')]
  const deliveries = await deliveriesOf(idp, () => idp.logOut(laptop))
  expect(deliveries).toMatchObject([{ client_id: both.clientId, sid, state: 'acknowledged' }])
  // Where this fails because the phone is still in, docs/rp/register.md need no longer advise "subject_claims": "sid".
  expect([await both.userOf(laptop), await both.userOf(phone)]).toEqual([null, null])
})

test('a token by a key that is not in the key set of the IdP ends nothing, and the ledger has the words of the RP', async () => {
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
