import { execFileSync } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { type Curfew, eventually, openCurfew } from '../../support/curfew.ts'
import { runCurfew, useProcesses } from '../../support/processes.ts'
import { openBrowser } from '../browser.ts'
import { type ExpressRp, openExpressRp } from '../express-rp.ts'
import { firstAttempt } from '../ledger.ts'
import { type Hydra, type HydraOptions, openHydra, PUBLISHED_KEYS } from './hydra.ts'
import { findHydra } from './hydra-binary.ts'
import { claimsOf, defineRelay, headerOf } from './relay.contract.ts'

// Goal: Ory Hydra joins Curfew by nothing but another URI, or by a few lines in its logout page, and then loses no logout.
// Method: Hydra as it is, once alone and once before Curfew; express-openid-connect as the RP; browsers that log in.

const binary = await findHydra()
if (typeof binary === 'string') {
  describe('Ory Hydra alone', () => defineAlone(binary))
  describe('Ory Hydra behind the relay', () =>
    defineRelay({ name: 'hydra', lenient: true, open: () => openHydra({ binary }) }))
  describe('Ory Hydra', () => defineCalls(binary))
  describe('Ory Hydra with a logout page that posts to Curfew', () => defineLogoutPage(binary))
} else {
  describe.skip(`Ory Hydra (${binary.missing})`, () => test('needs Ory Hydra', () => undefined))
}

/** Opens Hydra and a shop whose logouts Hydra posts directly. They close with the test. */
async function hydraAndShop(options: HydraOptions): Promise<{ hydra: Hydra; shop: ExpressRp }> {
  const hydra = await openHydra(options)
  onTestFinished(hydra.close)
  const shop = await openExpressRp(hydra, { name: 'shop' })
  onTestFinished(shop.close)
  return { hydra, shop }
}

function defineAlone(binary: string): void {
  test('posts a logout token of before errata 1, with a sid and no sub', async () => {
    const { hydra, shop } = await hydraAndShop({ binary })
    const browser = openBrowser()
    const sid = await shop.logIn(browser, 'alice')
    await hydra.logOut(browser)
    await eventually(() => expect(shop.received).toMatchObject([{ status: 204 }]))
    const [{ token } = { token: '' }] = shop.received
    expect(await shop.userOf(browser)).toBeNull()
    // If this fails because exp or a typ of logout+jwt is there, remove lenient_logout_tokens from docs/idp/hydra.md.
    expect(headerOf(token)).toMatchObject({ alg: 'RS256', typ: 'JWT' })
    expect(Object.keys(claimsOf(token)).toSorted()).toEqual(['aud', 'events', 'iat', 'iss', 'jti', 'sid'])
    expect(claimsOf(token)).toMatchObject({ iss: hydra.iss, aud: [shop.clientId], sid })
  })

  test('loses a logout if the RP is unavailable for its three tries', async () => {
    const { hydra, shop } = await hydraAndShop({ binary })
    const browser = openBrowser()
    await shop.logIn(browser, 'alice')
    await shop.pause()
    await hydra.logOut(browser)
    await eventually(() => expect(hydra.lost).toEqual([shop.clientId]))
    await shop.resume()
    expect([await shop.userOf(browser), shop.received]).toEqual(['alice', []])
  })

  test('posts nothing when the sessions of a subject are deleted, and nothing for logins that it does not remember', async () => {
    const { hydra, shop } = await hydraAndShop({ binary, remember: (user) => user !== 'forgotten' })
    const [bySubject, forgotten, bySid] = [openBrowser(), openBrowser(), openBrowser()]
    await shop.logIn(bySubject, 'subject')
    const forgottenSid = await shop.logIn(forgotten, 'forgotten')
    const sid = await shop.logIn(bySid, 'sid')
    const sessions = '/admin/oauth2/auth/sessions/login'
    await hydra.admin('DELETE', `${sessions}?subject=subject`)
    await hydra.admin('DELETE', `${sessions}?sid=${forgottenSid}`)
    await shop.logOut(forgotten)
    await hydra.admin('DELETE', `${sessions}?sid=${sid}`)
    await eventually(() => expect(shop.received.map(({ token }) => claimsOf(token).sid)).toEqual([sid]))
    expect([await shop.userOf(bySubject), await shop.userOf(bySid)]).toEqual(['subject', null])
  })
}

function defineCalls(binary: string): void {
  const processes = useProcesses()

  test('the calls that rp import prints point the clients of Hydra to the relay, and back', async () => {
    const curfew = await openCurfew({ workers: 0 })
    onTestFinished(curfew.stop)
    const { hydra, shop } = await hydraAndShop({ binary })
    const uriAtHydra = async () => {
      const client = await hydra.admin<{ readonly backchannel_logout_uri: string }>(
        'GET',
        `/admin/clients/${shop.clientId}`,
      )
      return client.backchannel_logout_uri
    }
    await curfew.client.putIssuer('hydra', { iss: hydra.iss, lenient_logout_tokens: true })
    const folder = await mkdtemp(join(tmpdir(), 'curfew-hydra-clients-'))
    onTestFinished(() => rm(folder, { recursive: true }))
    const file = join(folder, 'hydra-clients.json')
    await writeFile(file, JSON.stringify(await hydra.admin('GET', '/admin/clients')))
    const env = { CURFEW_URL: curfew.url, CURFEW_KEY: curfew.adminKey }
    const change = async (...options: readonly string[]) => {
      const command = ['rp', 'import', ...options, '--issuer', 'hydra', '--url', curfew.url, '--json']
      const { code, stdout } = await runCurfew(processes, command, env)
      expect(code).toBe(0)
      const { relay } = JSON.parse(stdout) as { relay: { calls: readonly { readonly script: string }[] } }
      const script = relay.calls.map((call) => call.script).join('')
      execFileSync('sh', ['-c', script], { env: { ...process.env, HYDRA_ADMIN: hydra.adminUrl } })
    }
    await change(file, '--relay')
    expect(await uriAtHydra()).toBe(`${curfew.url}/relay/hydra/${shop.clientId}`)
    await change('--restore')
    expect(await uriAtHydra()).toBe(shop.logoutUri)
  })
}

function defineLogoutPage(binary: string): void {
  const processes = useProcesses()

  /** The commands of docs/idp/hydra.md that let Curfew sign with the key of Hydra. */
  async function importKey(curfew: Curfew, hydra: Hydra): Promise<void> {
    const folder = await mkdtemp(join(tmpdir(), 'curfew-hydra-keys-'))
    onTestFinished(() => rm(folder, { recursive: true }))
    const file = join(folder, 'hydra-keys.json')
    await writeFile(file, JSON.stringify({ keys: await hydra.privateKeys() }))
    const command = ['keys', 'import', file, '--sign-now', '--issuer', 'hydra']
    const env = { CURFEW_URL: curfew.url, CURFEW_KEY: curfew.adminKey }
    expect(await runCurfew(processes, command, env)).toMatchObject({ code: 0, stderr: '' })
  }
  /** The call of docs/idp/hydra.md that lets Hydra publish the public keys of Curfew. */
  async function publishKeys(curfew: Curfew, hydra: Hydra): Promise<void> {
    await curfew.client.addKey('hydra', { alg: 'RS256' })
    await hydra.admin('PUT', `/admin/keys/${PUBLISHED_KEYS}`, await curfew.client.getJwks('hydra'))
  }

  test.each([
    ['the exported key of Hydra', importKey],
    ['a key of its own that Hydra publishes', publishKeys],
  ])(
    'the RP accepts the token that Curfew signs with %s, and two visits of the page are one logout',
    async (_, shareKeys) => {
      const curfew = await openCurfew()
      onTestFinished(curfew.stop)
      const events: string[] = []
      const { hydra, shop } = await hydraAndShop({
        binary,
        async onLogout({ challenge: id, subject: sub, sid }) {
          for (const _visit of [1, 2])
            events.push((await curfew.client.postLogoutEvent({ id, iss: hydra.iss, sub, sid })).id)
        },
      })
      await curfew.client.putIssuer('hydra', { iss: hydra.iss })
      await shareKeys(curfew, hydra)
      const exported = await hydra.admin<{ readonly backchannel_logout_uri: string }>(
        'GET',
        `/admin/clients/${shop.clientId}`,
      )
      await curfew.client.putRelyingParty('hydra', shop.clientId, exported)
      await hydra.repoint(shop.clientId, '')
      const browser = openBrowser()
      await shop.logIn(browser, 'alice')
      await hydra.logOut(browser)
      expect(await firstAttempt(curfew, events[0])).toMatchObject({
        ...{ status: 204, outcome: 'acknowledged', error_description: null },
      })
      expect(new Set(events).size).toBe(1)
      expect(shop.received).toHaveLength(1)
      expect(await shop.userOf(browser)).toBeNull()
    },
  )
}
