import { afterAll, beforeAll, expect, test } from 'vitest'
import { freePort } from '../../../deploy/kafka/ports.ts'
import { type Curfew, openCurfew } from '../../support/curfew.ts'
import { openBrowser } from '../browser.ts'
import { type Idp, openIdp } from '../idp.ts'
import { failedMusts, openPages, type RecipeRp, serveProgram } from './recipe.ts'

// Goal: the application of docs/rp/express-openid-connect.md works as it is pasted.
// Method: runs it as a process; oidc-provider as the IdP; browsers that log in.

let curfew: Curfew
let idp: Idp
let shop: RecipeRp

beforeAll(async () => {
  curfew = await openCurfew()
  idp = await openIdp(curfew, { name: 'provider' })
  shop = await openShop()
})
afterAll(async () => {
  await curfew?.stop()
  await Promise.all([shop?.close(), idp?.close()])
})

async function openShop(): Promise<RecipeRp> {
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const logoutUri = `${url}/backchannel-logout`
  const { client_id: clientId, client_secret: clientSecret } = await idp.register(
    { redirect_uris: [`${url}/callback`], backchannel_logout_uri: logoutUri },
    { subject_claims: 'sid' },
  )
  const names = {
    'https://idp.example': idp.iss,
    'https://shop.example': url,
    'web-shop': clientId,
    '3000': String(port),
  }
  const env = { CLIENT_SECRET: clientSecret, COOKIE_SECRET: 'a secret of the test that is long enough' }
  const served = await serveProgram('docs/rp/express-openid-connect.md', names, { url, env })
  return {
    clientId,
    logoutUri,
    get log() {
      return served.log
    },
    close: served.close,
    ...openPages(idp, url, served),
  }
}

test('a logout at the IdP ends the session of that browser only', async () => {
  const [laptop, phone] = [openBrowser(), openBrowser()]
  const sid = await shop.logIn(laptop, 'alice')
  await shop.logIn(phone, 'alice')
  await idp.logOut(laptop)
  const { deliveries } = await curfew.client.getLogoutEvent(idp.posted.at(-1) ?? '', { wait: 20 })
  expect(deliveries).toMatchObject([{ client_id: shop.clientId, sid, state: 'acknowledged' }])
  expect([await shop.userOf(laptop), await shop.userOf(phone)]).toEqual([null, 'alice'])
})

test('the probe finds one must that it fails: it answers 204', async () => {
  // If this fails because the list is empty, correct the section about the probe in docs/rp/express-openid-connect.md.
  expect(await failedMusts(curfew, idp, shop.clientId)).toEqual(['status_200'])
})
