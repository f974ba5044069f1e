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
      // A client with a secret gets the tokens and introspects them. For the logout it has the method.
      const withSecret = { clientAuthenticatorType: 'client-secret', secret, publicClient: false }
      await realm.admin('POST', '/clients', {
        ...{ clientId, directAccessGrantsEnabled: true, ...withSecret },
        protocolMappers: [audienceOf(clientId)],
      })
      const found = await realm.admin('GET', `/clients?clientId=${clientId}`)
      const [{ id: uuid } = { id: '' }] = (await found.json()) as { readonly id: string }[]
      const change = (settings: object) => realm.admin('PUT', `/clients/${uuid}`, { clientId, ...settings })
      const as = { client_id: clientId, client_secret: secret }
      // Keycloak introspects access tokens only.
      const isActive = async (token: string) => (await ask('/introspect', { ...as, token })).active
      const user = `user-of-${method.replaceAll('_', '-')}`
      const sub = await realm.addUser(user)
      const logIn = async () => {
        const form = {
          grant_type: 'password',
          scope: 'openid',
          username: user,
          password: user,
          ...as,
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
      expect(await isActive(ended.accessToken)).toBe(true)
      await change(client)
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
      expect((await curfew.client.probe(ISSUER, clientId)).report).toMatchObject({ failed: 0 })
      const { id } = await curfew.client.postLogoutEvent({
        iss: realm.iss,
        sub,
        sid: ended.sid,
        clients: [clientId],
      })
      const { deliveries } = await curfew.client.getLogoutEvent(id, { wait: 20 })
      expect(deliveries).toMatchObject([{ channel: 'revocation', state: 'acknowledged', level: 'done' }])
      await change(withSecret)
      expect([await isActive(ended.accessToken), await isActive(kept.accessToken)]).toEqual([false, true])
      const refresh = (refresh_token: string) =>
        ask('', { grant_type: 'refresh_token', refresh_token, ...as })
      expect(await refresh(ended.refreshToken)).toMatchObject({ error: 'invalid_grant' })
      expect(await refresh(kept.refreshToken)).not.toHaveProperty('error')
    },
  )
}

/** Keycloak answers an introspection by a client only if the client is in the aud of the token. */
function audienceOf(clientId: string) {
  return {
    ...{ name: 'audience', protocol: 'openid-connect', protocolMapper: 'oidc-audience-mapper' },
    config: {
      ...{ 'included.client.audience': clientId, 'access.token.claim': 'true' },
      'introspection.token.claim': 'true',
    },
  }
}
