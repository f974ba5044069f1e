import { generateKeyPairSync, randomUUID } from 'node:crypto'
import type { SessionInput } from '@curfew/contract'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Curfew, eventually, openCurfew } from '../../support/curfew.ts'
import { describeWithKeycloak, type TestKeycloak } from '../../support/keycloak.ts'
import { openRealm, type Realm } from './realm.ts'

// Goal: after a logout at Curfew, Keycloak takes the refresh token and the access token of the session no more.
// Method: Keycloak with a client for each method of authentication, whose metadata is registered at Curfew as it is.

await describeWithKeycloak('Keycloak whose revocation endpoint ends tokens', define)

const ISSUER = 'keycloak'
const PREPARE_MS = 300_000
const METADATA = [
  'revocation_endpoint',
  'revocation_endpoint_auth_methods_supported',
  'revocation_endpoint_auth_signing_alg_values_supported',
]

function define(keycloak: TestKeycloak): void {
  let curfew: Curfew
  let realm: Realm
  let metadata: Readonly<Record<string, unknown>>
  beforeAll(async () => {
    curfew = await openCurfew({ bookkeepers: 1 })
    realm = await openRealm(keycloak)
    await curfew.client.putIssuer(ISSUER, { iss: realm.iss })
    await realm.admin('POST', '/clients', { clientId: 'api', secret: 'of-the-api' })
    const response = await fetch(`${realm.iss}/.well-known/openid-configuration`)
    const discovered = (await response.json()) as Readonly<Record<string, unknown>>
    metadata = Object.fromEntries(METADATA.map((name) => [name, discovered[name]]))
  }, PREPARE_MS)
  afterAll(async () => {
    await realm.close()
    await curfew.stop()
  })

  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2_048 })
  const key = { kid: 'rp-1', alg: 'RS256', use: 'sig' }
  const publicJwk = { ...publicKey.export({ format: 'jwk' }), ...key }
  const privateJwk = JSON.stringify({ ...privateKey.export({ format: 'jwk' }), ...key })
  const secret = randomUUID()

  async function ask(path: string, form: Readonly<Record<string, string>>) {
    const response = await fetch(`${realm.iss}/protocol/openid-connect/token${path}`, {
      method: 'POST',
      body: new URLSearchParams(form),
    })
    return (await response.json()) as Readonly<Record<string, unknown>>
  }
  const isActive = async (token: string) =>
    (await ask('/introspect', { client_id: 'api', client_secret: 'of-the-api', token })).active

  test.each([
    ['client_secret_basic', { clientAuthenticatorType: 'client-secret', secret }, secret],
    ['client_secret_post', { clientAuthenticatorType: 'client-secret', secret }, secret],
    ['client_secret_jwt', { clientAuthenticatorType: 'client-secret-jwt', secret }, secret],
    [
      'private_key_jwt',
      {
        clientAuthenticatorType: 'client-jwt',
        attributes: { 'use.jwks.string': 'true', 'jwks.string': JSON.stringify({ keys: [publicJwk] }) },
      },
      privateJwk,
    ],
    ['none', { publicClient: true }, null],
  ])(
    'REV-01, REV-04: with %s, the tokens are inactive after a logout, and a refresh fails',
    async (method, client, own) => {
      const clientId = `rp-${method}`
      // The tokens are got by a public client, which then becomes the client of the method.
      await realm.admin('POST', '/clients', { clientId, publicClient: true, directAccessGrantsEnabled: true })
      const found = await realm.admin('GET', `/clients?clientId=${clientId}`)
      const [{ id: uuid } = { id: '' }] = (await found.json()) as { readonly id: string }[]
      const user = `user-of-${method.replaceAll('_', '-')}`
      const sub = await realm.addUser(user)
      const logIn = async () => {
        const form = {
          grant_type: 'password',
          scope: 'openid',
          username: user,
          password: user,
          client_id: clientId,
        }
        const { id_token, refresh_token, access_token } = await ask('', form)
        const claims = JSON.parse(
          Buffer.from(String(id_token).split('.')[1] ?? '', 'base64url').toString('utf8'),
        )
        return {
          sid: String(claims.sid),
          refreshToken: String(refresh_token),
          accessToken: String(access_token),
        }
      }
      const [ended, kept] = [await logIn(), await logIn()]
      await realm.admin('PUT', `/clients/${uuid}`, {
        ...{ clientId, publicClient: false, directAccessGrantsEnabled: true, ...client },
      })
      await curfew.client.putRelyingParty(ISSUER, clientId, {
        curfew: { channels: { revocation: { ...metadata, method, ...(own !== null && { secret: own }) } } },
      } as never)
      const expires_at = new Date(Date.now() + 600_000).toISOString()
      for (const { sid, refreshToken, accessToken } of [ended, kept])
        await curfew.client.postSession({
          ...{ iss: realm.iss, sub, sid, client_id: clientId, expires_at },
          revocation: [
            { token: refreshToken, hint: 'refresh_token' },
            { token: accessToken, hint: 'access_token' },
          ],
        } as SessionInput)
      await eventually(async () =>
        expect((await curfew.client.listSessions({ iss: realm.iss, sub })).items).toHaveLength(2),
      )
      expect([await isActive(ended.accessToken), await isActive(kept.accessToken)]).toEqual([true, true])
      expect((await curfew.client.probe(ISSUER, clientId)).report).toMatchObject({ failed: 0 })
      const { id } = await curfew.client.postLogoutEvent({
        iss: realm.iss,
        sub,
        sid: ended.sid,
        clients: [clientId],
      })
      const { deliveries } = await curfew.client.getLogoutEvent(id, { wait: 20 })
      expect(deliveries).toMatchObject([{ channel: 'revocation', state: 'acknowledged', level: 'done' }])
      expect([await isActive(ended.accessToken), await isActive(kept.accessToken)]).toEqual([false, true])
      await realm.admin('PUT', `/clients/${uuid}`, { clientId, publicClient: true })
      const refresh = (refresh_token: string) =>
        ask('', { grant_type: 'refresh_token', refresh_token, client_id: clientId })
      expect(await refresh(ended.refreshToken)).toMatchObject({ error: 'invalid_grant' })
      expect(await refresh(kept.refreshToken)).not.toHaveProperty('error')
    },
  )
}
