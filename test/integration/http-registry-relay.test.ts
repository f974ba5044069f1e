import type { Imported, ImportFault, RelyingParty } from '@curfew/contract'
import type { ClientId, Issuer, IssuerName } from '@curfew/domain'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Curfew, ISS, ISSUER, openCurfew } from '../support/curfew.ts'

// Goal: the registry says where an IdP posts the tokens of each client, and no registration leads a logout back to Curfew.
// Method: the real console over HTTP, with a public URL behind a path of a host that it shares with relying parties.

const PUBLIC = 'https://sso.example/curfew'
const OWN = expect.stringMatching(/an address of Curfew's own: .* in a loop\. Give the URL of /)

let curfew: Curfew
beforeAll(async () => {
  curfew = await openCurfew({ workers: 0, publicUrl: `${PUBLIC}/` })
})
afterAll(() => curfew.stop())

interface Problem {
  readonly errors?: readonly { readonly pointer: string; readonly detail: string }[]
  readonly faults?: readonly ImportFault[]
}

const PARTIES = `/v1/issuers/${ISSUER}/relying-parties`

async function refusal(method: string, path: string, body: unknown): Promise<Problem['errors']> {
  const response = await curfew.call(method, path, body)
  expect(response.status).toBe(400)
  return ((await response.json()) as Problem).errors
}

async function imported(clients: readonly object[], query = '') {
  const text = clients.map((client) => `${JSON.stringify(client)}\n`).join('')
  const headers = { 'content-type': 'application/x-ndjson' }
  const response = await curfew.call('POST', `${PARTIES}/import${query}`, text, headers)
  return { status: response.status, body: (await response.json()) as Imported & Problem }
}

const keycloak = (clientId: string, url: string, more: object = {}) => ({
  clientId,
  attributes: { 'backchannel.logout.url': url, ...more },
})

describe('the relay address', () => {
  test('of an issuer is a template, and that of a client has the encoded client_id', async () => {
    expect((await curfew.client.getIssuer(ISSUER)).links.relay).toBe(`${PUBLIC}/relay/main/{client_id}`)
    const party = await curfew.client.putRelyingParty(ISSUER, 'https://app.example/a b', {})
    expect(party.links.relay).toBe(`${PUBLIC}/relay/main/https%3A%2F%2Fapp.example%2Fa%20b`)
    const { items } = await curfew.client.listRelyingParties(ISSUER)
    expect(items.map(({ links }) => links.relay)).toEqual([party.links.relay])
  })

  test('is null without a public URL', async () => {
    await using other = await openCurfew({ workers: 0 })
    expect((await other.client.getIssuer(ISSUER)).links.relay).toBeNull()
    expect((await other.client.putRelyingParty(ISSUER, 'shop', {})).links.relay).toBeNull()
  })
})

describe('the relay settings of an issuer', () => {
  const path = '/v1/issuers/relayed'
  const iss = 'https://relayed.example'

  test('are put and read back, and a PUT without them sets the defaults', async () => {
    const settings = { jwks_uri: `${iss}/keys`, lenient_logout_tokens: true, widen: true }
    expect((await curfew.call('PUT', path, { iss, ...settings })).status).toBe(201)
    expect(await curfew.client.getIssuer('relayed')).toMatchObject(settings)
    expect((await curfew.call('PUT', path, { iss, jwks_uri: null })).status).toBe(200)
    const defaults = { jwks_uri: null, lenient_logout_tokens: false, widen: false }
    expect(await curfew.client.getIssuer('relayed')).toMatchObject(defaults)
  })

  test.each([
    ['that is no URI', 'keys', 'absolute'],
    ['without TLS at a public address', 'http://192.0.2.1/keys', 'https'],
    ['at a private address', 'https://10.0.0.1/keys', 'allowed_networks'],
    ['at an address of our own', `${PUBLIC}/issuers/main/jwks.json`, "Curfew's own"],
  ])('refuse a jwks_uri %s', async (_what, jwks_uri, words) => {
    const found = [{ pointer: '/jwks_uri', detail: expect.stringContaining(words) }]
    expect(await refusal('PUT', path, { iss, jwks_uri })).toEqual(found)
  })

  test("allow a jwks_uri in the issuer's own networks", async () => {
    const key = { iss, jwks_uri: 'http://127.0.0.1:9/keys' }
    expect((await curfew.call('PUT', path, key)).status).toBe(200)
    const narrowed = { ...key, defaults: { allowed_networks: ['127.0.0.2/32'] } }
    expect(await refusal('PUT', path, narrowed)).toMatchObject([{ pointer: '/jwks_uri' }])
  })
})

describe('an address of our own', () => {
  const own = `${PUBLIC}/v1/logout-events`

  test.each<[string, object, string]>([
    ['its endpoint', { backchannel_logout_uri: own }, '/backchannel_logout_uri'],
    ['a further endpoint', { curfew: { endpoints: [{ name: 'b', uri: own }] } }, '/curfew/endpoints/0/uri'],
    [
      'an endpoint of another channel',
      { curfew: { channels: { global_revocation: { uri: own } } } },
      '/curfew/channels/global_revocation/uri',
    ],
  ])('is refused as %s, by PUT, PATCH and import', async (_what, body, pointer) => {
    await curfew.client.putRelyingParty(ISSUER, 'present', {})
    const faults = [expect.objectContaining({ pointer, detail: OWN })]
    expect(await refusal('PUT', `${PARTIES}/new`, body)).toEqual(faults)
    expect(await refusal('PATCH', `${PARTIES}/present`, body)).toEqual(faults)
    const { status, body: answer } = await imported([{ client_id: 'new', ...body }])
    expect([status, answer.faults]).toEqual([400, faults])
  })

  test('includes the relay and the listener, and excludes other paths of the public host', async () => {
    const fault = { pointer: '/backchannel_logout_uri', detail: OWN }
    for (const base of [curfew.url, PUBLIC]) {
      const relay = { backchannel_logout_uri: `${base}/relay/main/new` }
      expect(await refusal('PUT', `${PARTIES}/new`, relay)).toEqual([fault])
    }
    const beside = { backchannel_logout_uri: 'https://sso.example/wiki/logout' }
    expect((await curfew.call('PUT', `${PARTIES}/wiki`, beside)).status).toBe(201)
  })
})

describe('an import of an export that was made after the IdP was changed', () => {
  const relayOf = (clientId: string) => `${PUBLIC}/relay/main/${clientId}`
  const uriOf = async (clientId: string) =>
    (await curfew.client.getRelyingParty(ISSUER, clientId)).status.endpoints.map(({ uri }) => uri)

  test('keeps the registered endpoints, says so, and changes nothing', async () => {
    const before = [keycloak('kc-1', 'https://one.example/'), keycloak('kc-2', 'https://two.example/')]
    expect((await imported(before)).body).toMatchObject({ created: 2, notices: [] })
    // Another address of the same relay: by its listener, with lower-case escapes, or from before the public URL was set.
    const after = [
      keycloak('kc-1', relayOf('kc-1')),
      keycloak('kc-2', 'https://old.example/relay/main/kc%2d2'),
    ]
    const notices = [
      {
        code: 'relay_address_kept',
        detail: "Kept the registered endpoint of 2 clients: the file has the relay's address.",
        pointer: null,
        total: 2,
        client_ids: ['kc-1', 'kc-2'],
      },
    ]
    expect(await imported(after, '?dry_run=true')).toMatchObject({ status: 200, body: { notices } })
    const { status, body } = await imported(after)
    expect(status).toBe(200)
    expect(body).toMatchObject({ dry_run: false, total: 2, created: 0, changed: 0, unchanged: 2 })
    expect(body.notices).toEqual(notices)
    expect([await uriOf('kc-1'), await uriOf('kc-2')]).toEqual([
      ['https://one.example/'],
      ['https://two.example/'],
    ])
    const url = 'https://app.example/'
    await imported([keycloak(url, 'https://app.example/logout')])
    const unescaped = await imported([keycloak(url, relayOf(url))])
    expect(unescaped.body).toMatchObject({ unchanged: 1, notices: [{ client_ids: [url] }] })
    const renamed = { ...keycloak('kc-1', relayOf('kc-1')), name: 'One' }
    expect((await imported([renamed])).body).toMatchObject({ changed: 1 })
    expect(await curfew.client.getRelyingParty(ISSUER, 'kc-1')).toMatchObject({
      name: 'One',
      attributes: { 'backchannel.logout.url': 'https://one.example/' },
    })
  })

  test("keeps the endpoint of a client that has another client's relay address, and names it", async () => {
    await imported([keycloak('kc-3', 'https://three.example/')])
    expect((await imported([keycloak('kc-3', relayOf('kc-1'))])).body.notices).toEqual([
      {
        code: 'relay_address_crossed',
        detail: expect.stringContaining("Set each client's own relay address"),
        pointer: null,
        total: 1,
        client_ids: ['kc-3'],
      },
    ])
    expect(await uriOf('kc-3')).toEqual(['https://three.example/'])
  })

  test('refuses a client that has no registered endpoint, and says where its URI must come from', async () => {
    const fault = {
      line: 2,
      client_id: 'kc-new',
      pointer: '/attributes/backchannel.logout.url',
      detail: expect.stringContaining('made before the IdP was changed'),
    }
    const { status, body } = await imported([
      keycloak('kc-1', relayOf('kc-1')),
      keycloak('kc-new', relayOf('kc-new')),
    ])
    expect([status, body.faults]).toEqual([400, [fault]])
  })
})

test('an import names the clients whose logout tokens the relay cannot take', async () => {
  const jwks = { keys: [{ kty: 'EC', crv: 'P-256', ...POINT, use: 'enc', alg: 'ECDH-ES' }] }
  const sealed = { id_token_encrypted_response_alg: 'ECDH-ES', jwks }
  const { body } = await imported([
    { client_id: 'sealed', backchannel_logout_uri: 'https://sealed.example/', ...sealed },
    { client_id: 'without-endpoint', ...sealed },
    { client_id: 'open', backchannel_logout_uri: 'https://open.example/' },
  ])
  expect(body.notices.filter(({ code }) => code !== 'no_endpoint')).toMatchObject([
    { code: 'relay_unreadable', total: 1, client_ids: ['sealed'] },
  ])
  const hmac = await imported([
    keycloak('hmac', 'https://hmac.example/', { 'id.token.signed.response.alg': 'HS256' }),
  ])
  expect(hmac.body.faults).toMatchObject([
    { client_id: 'hmac', pointer: '/attributes/id.token.signed.response.alg' },
  ])
})

/** The point of the example key in RFC 7517 appendix A.1. */
const POINT = {
  x: 'MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4',
  y: '4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM',
}

test("a credential that is bound to a client sees the client's relay address", async () => {
  await curfew.client.putRelyingParty(ISSUER, 'bound', {})
  const clients = new Set(['bound' as ClientId])
  const access = { kind: 'clients', issuer: ISSUER as IssuerName, iss: ISS as Issuer, clients } as const
  const key = curfew.keyBoundTo(access, 'clients:read')
  const response = await fetch(`${curfew.url}${PARTIES}/bound`, {
    headers: { authorization: `Bearer ${key}` },
  })
  expect(((await response.json()) as RelyingParty).links.relay).toBe(`${PUBLIC}/relay/main/bound`)
})
