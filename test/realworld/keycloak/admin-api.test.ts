import { randomUUID } from 'node:crypto'
import type { LogoutEventInput } from '@curfew/contract'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Curfew, openCurfew } from '../../support/curfew.ts'
import { describeWithKeycloak, type TestKeycloak } from '../../support/keycloak.ts'
import { openBrowser } from '../browser.ts'
import { type ExpressRp, openExpressRp } from '../express-rp.ts'
import { firstAttempt } from '../ledger.ts'
import { openRealm, type Realm } from './realm.ts'

// Goal: a logout that was posted to Curfew ends the session at Keycloak and its refresh tokens, as docs/idp/admin-api.md says.
// Method: Keycloak with the client of that page, real logins in a browser, and refresh tokens of another client.

await describeWithKeycloak('Keycloak whose admin API ends sessions', define)

const ISSUER = 'keycloak'
/** Curfew, a realm, two service clients and an RP on a busy machine. */
const PREPARE_MS = 300_000

function define(keycloak: TestKeycloak): void {
  let curfew: Curfew
  let realm: Realm
  let shop: ExpressRp
  const secret = randomUUID()
  const register = (client: string, own: object = {}) =>
    curfew.client.putRelyingParty(ISSUER, client, {
      curfew: {
        channels: {
          admin: {
            ...{ preset: 'keycloak', base: keycloak.url, realm: realm.iss.split('/').at(-1) },
            ...{ auth: { client_id: 'curfew' }, secret, ...own },
          },
        },
      },
    } as never)

  beforeAll(async () => {
    curfew = await openCurfew()
    realm = await openRealm(keycloak)
    shop = await openExpressRp(realm, { name: 'shop' })
    await addServiceClient(realm, 'curfew', secret, ['manage-users'])
    await addServiceClient(realm, 'powerless', secret, [])
    await realm.admin('POST', '/clients', {
      clientId: 'tool',
      publicClient: true,
      directAccessGrantsEnabled: true,
    })
    await curfew.client.putIssuer(ISSUER, { iss: realm.iss })
    await register('keycloak')
  }, PREPARE_MS)
  afterAll(async () => {
    await shop.close()
    await realm.close()
    await curfew.stop()
  })

  /** Logs a user in with a password. @returns the sid and the refresh token. */
  async function logIn(user: string) {
    const { id_token, refresh_token } = await tokens({
      ...{ grant_type: 'password', scope: 'openid', username: user, password: user },
    })
    const claims = JSON.parse(Buffer.from(String(id_token).split('.')[1] ?? '', 'base64url').toString('utf8'))
    return { sid: claims.sid as string, refreshToken: String(refresh_token) }
  }
  const refresh = async (refresh_token: string) => {
    const { error } = await tokens({ grant_type: 'refresh_token', refresh_token })
    return error ?? 'refreshed'
  }
  async function tokens(form: Readonly<Record<string, string>>): Promise<Readonly<Record<string, unknown>>> {
    const response = await fetch(`${realm.iss}/protocol/openid-connect/token`, {
      method: 'POST',
      body: new URLSearchParams({ client_id: 'tool', ...form }),
    })
    return (await response.json()) as Readonly<Record<string, unknown>>
  }
  async function logout(event: Partial<LogoutEventInput>, clients: readonly string[] = ['keycloak']) {
    const { id } = await curfew.client.postLogoutEvent({ iss: realm.iss, clients: [...clients], ...event })
    const { deliveries } = await curfew.client.getLogoutEvent(id, { wait: 20 })
    return { id, deliveries }
  }

  test('a logout of one session ends it, its refresh token and the single sign-on, and no other session', async () => {
    const sub = await realm.addUser('alice')
    const browser = openBrowser()
    const sid = await shop.logIn(browser, 'alice')
    const [ended, kept] = [await logIn('alice'), await logIn('alice')]
    for (const each of [sid, ended.sid]) {
      const { deliveries } = await logout({ sub, sid: each })
      expect(deliveries).toMatchObject([{ channel: 'admin', state: 'acknowledged', level: 'done' }])
    }
    expect([await refresh(ended.refreshToken), await refresh(kept.refreshToken)]).toEqual([
      'invalid_grant',
      'refreshed',
    ])
    const page = await browser.open(`${shop.url}/profile`)
    expect(page.body).toContain('kc-form-login')
    expect(await (await realm.admin('GET', `/users/${sub}/sessions`)).json()).toMatchObject([
      { id: kept.sid },
    ])
  })

  test('a logout of the subject ends all sessions and refresh tokens of the user', async () => {
    const sub = await realm.addUser('ben')
    const other = await realm.addUser('cleo')
    const [one, two] = [await logIn('ben'), await logIn('ben')]
    const cleo = await logIn('cleo')
    const { deliveries } = await logout({ sub })
    expect(deliveries).toMatchObject([{ state: 'acknowledged', level: 'done' }])
    expect([await refresh(one.refreshToken), await refresh(two.refreshToken)]).toEqual([
      'invalid_grant',
      'invalid_grant',
    ])
    expect(await (await realm.admin('GET', `/users/${sub}/sessions`)).json()).toEqual([])
    expect(await refresh(cleo.refreshToken)).toBe('refreshed')
    expect(await (await realm.admin('GET', `/users/${other}/sessions`)).json()).toHaveLength(1)
  })

  test('a logout of the subject ends offline tokens too, and a logout of one session does not', async () => {
    const sub = await realm.addUser('dan')
    const { refresh_token, session_state } = await tokens({
      ...{ grant_type: 'password', scope: 'openid offline_access', username: 'dan', password: 'dan' },
    })
    await logout({ sub, sid: String(session_state) })
    expect(await refresh(String(refresh_token))).toBe('refreshed')
    await logout({ sub })
    expect(await refresh(String(refresh_token))).toBe('invalid_grant')
  })

  test('a session or user that Keycloak does not know is acknowledged, with a note', async () => {
    const session = await logout({ sub: randomUUID(), sid: randomUUID() })
    expect(await firstAttempt(curfew, session.id)).toMatchObject({ status: 404, note: 'unknown_session' })
    const user = await logout({ sub: randomUUID() })
    expect(await firstAttempt(curfew, user.id)).toMatchObject({ status: 404, note: 'unknown_user' })
  })

  test('a client without the role, and one with another secret, are refused with words that say so', async () => {
    const event = { sub: randomUUID(), sid: randomUUID() }
    await register('powerless', { auth: { client_id: 'powerless' } })
    const powerless = await logout(event, ['powerless'])
    expect(await firstAttempt(curfew, powerless.id)).toMatchObject({ outcome: 'misconfigured', status: 403 })
    await register('stranger', { secret: 'another' })
    const stranger = await logout(event, ['stranger'])
    expect(await firstAttempt(curfew, stranger.id)).toMatchObject({
      ...{ outcome: 'misconfigured', status: 401, error: 'unauthorized_client' },
      error_description: expect.stringMatching(/^The token endpoint refused the client/),
    })
  })

  test('the probe finds no fault, and tells a client without the role', async () => {
    expect((await curfew.client.probe(ISSUER, 'keycloak')).report).toMatchObject({
      conformant: true,
      failed: 0,
      unknown: 0,
    })
    const { report } = await curfew.client.probe(ISSUER, 'powerless')
    const failed = (report?.checks ?? []).filter(({ result }) => result === 'failed')
    expect(failed).toMatchObject([
      { id: 'session_1', status: 403, fix: expect.stringMatching(/manage-users/) },
      { id: 'subject_1', status: 403 },
    ])
  })
}

/** Adds a client with a service account that has these roles of realm-management. */
async function addServiceClient(realm: Realm, clientId: string, secret: string, roles: readonly string[]) {
  await realm.admin('POST', '/clients', {
    ...{ clientId, secret, serviceAccountsEnabled: true, standardFlowEnabled: false },
  })
  const idOf = async (name: string) => {
    const found = await realm.admin('GET', `/clients?clientId=${name}`)
    return ((await found.json()) as { readonly id: string }[])[0]?.id
  }
  const account = await realm.admin('GET', `/clients/${await idOf(clientId)}/service-account-user`)
  const { id: user } = (await account.json()) as { readonly id: string }
  const management = await idOf('realm-management')
  for (const name of roles) {
    const role = await realm.admin('GET', `/clients/${management}/roles/${name}`)
    await realm.admin('POST', `/users/${user}/role-mappings/clients/${management}`, [await role.json()])
  }
}
