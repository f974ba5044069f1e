import type { SessionInput } from '@curfew/contract'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Curfew, eventually, openCurfew } from '../support/curfew.ts'
import { type CodeClient, openCodeClient } from './code-flow.ts'
import { openProvider, type PlainIdp } from './idp.ts'

// Goal: after a logout at Curfew, oidc-provider takes the refresh token and the access token of the session no more.
// Method: oidc-provider with its revocation and introspection endpoints, whose metadata is registered at Curfew as it is; real logins
// with the authorization code flow.

const ISSUER = 'provider'
let curfew: Curfew
let idp: PlainIdp
let app: CodeClient
beforeAll(async () => {
  curfew = await openCurfew({ bookkeepers: 1 })
  idp = await openProvider()
  app = await openCodeClient(idp, { authorization: `${idp.iss}/auth`, token: `${idp.iss}/token` })
  await curfew.client.putIssuer(ISSUER, { iss: idp.iss })
})
afterAll(async () => {
  await app.close()
  await idp.close()
  await curfew.stop()
})

const METADATA = ['revocation_endpoint', 'revocation_endpoint_auth_methods_supported'] as const

/** A client at oidc-provider and at Curfew. */
async function register(own: object = {}) {
  const { client_id: id, client_secret: secret } = await idp.register({
    ...{ redirect_uris: [app.redirectUri], grant_types: ['authorization_code', 'refresh_token'] },
    // Without the address, oidc-provider puts no sid into ID tokens.
    backchannel_logout_uri: 'https://rp.example/logout',
    token_endpoint_auth_method: 'client_secret_basic',
  })
  const discovered = (await (await fetch(`${idp.iss}/.well-known/openid-configuration`)).json()) as Record<
    string,
    unknown
  >
  const metadata = Object.fromEntries(METADATA.map((name) => [name, discovered[name]]))
  expect(metadata.revocation_endpoint).toBe(`${idp.iss}/token/revocation`)
  await curfew.client.putRelyingParty(ISSUER, id, {
    curfew: { channels: { revocation: { ...metadata, secret, ...own } } },
  } as never)
  return { id, secret }
}

type Client = Awaited<ReturnType<typeof register>>

async function ask(path: string, { id, secret }: Client, form: Readonly<Record<string, string>>) {
  const response = await fetch(idp.iss + path, {
    method: 'POST',
    headers: { authorization: `Basic ${btoa(`${id}:${secret}`)}` },
    body: new URLSearchParams(form),
  })
  return (await response.json()) as { readonly active?: boolean; readonly error?: string }
}
const isActive = async (client: Client, token: string) =>
  (await ask('/token/introspection', client, { token })).active
const refresh = (client: Client, refresh_token: string) =>
  ask('/token', client, { grant_type: 'refresh_token', refresh_token })

/** Logs in, and posts the session with its tokens. */
async function begin(client: Client, user: string) {
  const tokens = await app.logIn(user, client)
  const { sub, sid, refreshToken, accessToken } = tokens
  const expires_at = new Date(Date.now() + 600_000).toISOString()
  await curfew.client.postSession({
    ...{ iss: idp.iss, sub, sid, client_id: client.id, expires_at },
    revocation: [
      { token: refreshToken, hint: 'refresh_token' },
      { token: accessToken, hint: 'access_token' },
    ],
  } as SessionInput)
  await eventually(async () =>
    expect((await curfew.client.listSessions({ iss: idp.iss, sid })).items).toHaveLength(1),
  )
  expect([await isActive(client, refreshToken), await isActive(client, accessToken)]).toEqual([true, true])
  return tokens
}

test('REV-01, REV-04: after a logout the tokens introspect as inactive, and a refresh fails', async () => {
  const client = await register()
  const [ended, kept] = [await begin(client, 'alice'), await begin(client, 'bob')]
  const { id } = await curfew.client.postLogoutEvent({ iss: idp.iss, sid: ended.sid, clients: [client.id] })
  const { deliveries } = await curfew.client.getLogoutEvent(id, { wait: 20 })
  expect(deliveries).toMatchObject([{ channel: 'revocation', state: 'acknowledged', level: 'done' }])
  expect([
    await isActive(client, ended.refreshToken),
    await isActive(client, ended.accessToken),
    (await refresh(client, ended.refreshToken)).error,
  ]).toEqual([false, false, 'invalid_grant'])
  expect(await isActive(client, kept.refreshToken)).toBe(true)
  expect(await refresh(client, kept.refreshToken)).not.toHaveProperty('error')
})

test('REV-02: a token that is revoked already is acknowledged', async () => {
  const client = await register()
  const { sub, refreshToken } = await begin(client, 'carol')
  await fetch(`${idp.iss}/token/revocation`, {
    method: 'POST',
    headers: { authorization: `Basic ${btoa(`${client.id}:${client.secret}`)}` },
    body: new URLSearchParams({ token: refreshToken }),
  })
  const { id } = await curfew.client.postLogoutEvent({ iss: idp.iss, sub, clients: [client.id] })
  const { deliveries } = await curfew.client.getLogoutEvent(id, { wait: 20 })
  expect(deliveries).toMatchObject([{ state: 'acknowledged', level: 'done' }])
})

test('a client that the tokens were not issued to is refused, and the words say so', async () => {
  const stranger = await register()
  const client = await register({ client_id: stranger.id, secret: stranger.secret })
  const { sid, refreshToken } = await begin(client, 'dan')
  const { id } = await curfew.client.postLogoutEvent({ iss: idp.iss, sid, clients: [client.id] })
  await eventually(async () => {
    const [delivery] = (await curfew.client.getLogoutEvent(id)).deliveries
    const { attempts } = await curfew.client.getDelivery(delivery?.id ?? '')
    expect(attempts).toMatchObject([{ outcome: 'misconfigured', status: 400 }])
  })
  expect(await isActive(client, refreshToken)).toBe(true)
})

test('the probe finds no fault, and tells a wrong secret', async () => {
  const client = await register()
  expect((await curfew.client.probe(ISSUER, client.id)).report).toMatchObject({
    ...{ conformant: true, failed: 0, unknown: 0 },
  })
  const wrong = await register({ secret: 'another' })
  const { report } = await curfew.client.probe(ISSUER, wrong.id)
  expect((report?.checks ?? []).find(({ result }) => result === 'failed')).toMatchObject({
    ...{ id: 'unknown_token', status: 401, fix: expect.stringMatching(/credential of the client/) },
  })
})
