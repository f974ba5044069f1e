import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Curfew, openCurfew } from '../../support/curfew.ts'
import { openBrowser } from '../browser.ts'
import { type ExpressRp, openExpressRp } from '../express-rp.ts'
import { type Hydra, openHydra } from './hydra.ts'
import { findHydra } from './hydra-binary.ts'

// Goal: a logout that was posted to Curfew ends the login at Ory Hydra, and the tokens of the user, as docs/idp/admin-api.md says.
// Method: Hydra as it is, with real logins in browsers. Its admin API asks for no credential.

const binary = await findHydra()
if (typeof binary === 'string') describe('Ory Hydra whose admin API ends sessions', () => define(binary))
else describe.skip(`Ory Hydra (${binary.missing})`, () => test('needs Ory Hydra', () => undefined))

function define(binary: string): void {
  let curfew: Curfew
  let hydra: Hydra
  let shop: ExpressRp
  beforeAll(async () => {
    curfew = await openCurfew()
    hydra = await openHydra({ binary })
    shop = await openExpressRp(hydra, { name: 'shop' })
    await curfew.client.putIssuer('hydra', { iss: hydra.iss })
    await curfew.client.putRelyingParty('hydra', 'hydra', {
      curfew: { channels: { admin: { preset: 'hydra', base: hydra.adminUrl } } },
    } as never)
  })
  afterAll(async () => {
    await shop.close()
    await hydra.close()
    await curfew.stop()
  })

  async function logout(event: { readonly sub: string; readonly sid?: string }) {
    const { id } = await curfew.client.postLogoutEvent({ iss: hydra.iss, clients: ['hydra'], ...event })
    return (await curfew.client.getLogoutEvent(id, { wait: 20 })).deliveries
  }
  /** Whether Hydra remembers the login of the browser. */
  async function isRemembered(browser: ReturnType<typeof openBrowser>): Promise<boolean> {
    const page = await browser.open(`${shop.url}/login`)
    const challenge = /name="login_challenge" value="([^"]+)"/.exec(page.body)?.[1] ?? ''
    const path = `/admin/oauth2/auth/requests/login?login_challenge=${challenge}`
    return (await hydra.admin<{ readonly skip: boolean }>('GET', path)).skip
  }

  test('a logout of one session ends that login, and no other of the user', async () => {
    const [ended, kept] = [openBrowser(), openBrowser()]
    const sid = await shop.logIn(ended, 'alice')
    await shop.logIn(kept, 'alice')
    expect(await logout({ sub: 'alice', sid })).toMatchObject([
      { channel: 'admin', state: 'acknowledged', level: 'done' },
    ])
    // Hydra posts the logout of a login that it remembers to its clients, and then the RP asks Hydra again.
    await expect.poll(() => shop.userOf(ended), { timeout: 20_000 }).toBeNull()
    expect([await isRemembered(ended), await isRemembered(kept)]).toEqual([false, true])
  })

  test('a logout of the subject ends every login and every consent of the user', async () => {
    const browsers = [openBrowser(), openBrowser()]
    for (const browser of browsers) {
      await shop.logIn(browser, 'ben')
      expect(await isRemembered(browser)).toBe(true)
    }
    const consents = () => hydra.admin<unknown[]>('GET', '/admin/oauth2/auth/sessions/consent?subject=ben')
    expect(await consents()).not.toEqual([])
    expect(await logout({ sub: 'ben' })).toMatchObject([{ state: 'acknowledged', level: 'done' }])
    expect(await consents()).toEqual([])
    // The RP has another channel, so its own session lasts. A new login at Hydra shows the form.
    for (const browser of browsers) expect(await isRemembered(browser)).toBe(false)
  })

  test('the probe finds no fault', async () => {
    const { report } = await curfew.client.probe('hydra', 'hydra')
    expect(report).toMatchObject({ failed: 0 })
  })
}
