import { generateKeyPairSync } from 'node:crypto'
import type { RelyingParty } from '@curfew/contract'
import type { AccessFilter, ClientId, Issuer, IssuerName } from '@curfew/domain'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Curfew, ISS, ISSUER, openCurfew } from '../support/curfew.ts'

// Goal: Curfew accepts a client as its IdP exports it, explains every fault, and keeps a bound credential to its own clients.
// Method: the real console over HTTP, with credentials of every access filter.

let curfew: Curfew
beforeAll(async () => {
  curfew = await openCurfew({ workers: 0, allowedNetworks: [] })
  await curfew.client.putIssuer('sidless', { iss: 'https://sidless.example', sid_supported: false })
})
afterAll(() => curfew.stop())

const listOf = (issuer: string) => `/v1/issuers/${issuer}/relying-parties`
const pathOf = (clientId: string, issuer = ISSUER) => `${listOf(issuer)}/${clientId}`
const uriOf = (clientId: string) => `https://${clientId}.rp.example/logout`

interface Answer {
  readonly status: number
  readonly body: RelyingParty & {
    readonly errors?: readonly { readonly pointer: string; readonly detail: string }[]
    readonly items?: readonly { readonly client_id: string; readonly name: string }[]
  }
}
/** Registers an issuer that has an ES256 key of its own, so that Curfew makes none for it. */
async function putIssuerWithKey(name: string): Promise<void> {
  await curfew.client.putIssuer(name, { iss: `https://${name}.example` })
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const jwk = { ...privateKey.export({ format: 'jwk' }), kid: 'theirs' }
  await curfew.client.addKey(name, { jwk, alg: 'ES256', sign_from: 'now' })
}

async function call(method: string, path: string, body?: unknown, key?: string): Promise<Answer> {
  const headers = key === undefined ? {} : { authorization: `Bearer ${key}` }
  const response = await curfew.call(method, path, body, headers)
  return { status: response.status, body: (await response.json()) as Answer['body'] }
}

describe('a client in the format of its product', () => {
  const keycloak = (clientId: string) => ({
    clientId,
    name: 'Web shop',
    enabled: true,
    protocol: 'openid-connect',
    secret: 'hush',
    attributes: {
      'backchannel.logout.url': uriOf(clientId),
      'backchannel.logout.session.required': 'true',
      'id.token.signed.response.alg': 'ES256',
      'frontchannel.logout.url': '',
    },
  })

  test('is used, kept and returned, without its secrets', async () => {
    const { secret: _, ...kept } = keycloak('shop')
    expect((await call('PUT', pathOf('shop'), keycloak('shop'))).status).toBe(201)
    const { body } = await call('GET', pathOf('shop'))
    expect(body).toMatchObject({
      ...kept,
      client_id: 'shop',
      status: {
        format: 'keycloak',
        client_name: 'Web shop',
        endpoints: [
          {
            ...{
              channel: 'backchannel',
              name: 'main',
              uri: uriOf('shop'),
              enabled: true,
              disabled_reason: null,
            },
            names: 'session',
            settings: { session_required: true, algorithm: 'ES256' },
          },
        ],
      },
    })
    expect(JSON.stringify(body)).not.toContain('hush')
  })

  test('can be read, changed in that format, and put back', async () => {
    await call('PUT', pathOf('edited'), keycloak('edited'))
    const { body } = await call('GET', pathOf('edited'))
    const attributes = { ...keycloak('edited').attributes, 'backchannel.logout.url': uriOf('moved') }
    const put = await call('PUT', pathOf('edited'), { ...body, attributes })
    expect(put.body.status.endpoints).toMatchObject([{ uri: uriOf('moved') }])
    const patched = await call('PATCH', pathOf('edited'), { backchannel_logout_uri: uriOf('again') })
    expect(patched.body.status.endpoints).toMatchObject([{ uri: uriOf('again') }])
  })

  test('gets faults that point into that format', async () => {
    const change = (attributes: object) => ({
      ...keycloak('faulty'),
      attributes: { ...keycloak('faulty').attributes, ...attributes },
    })
    for (const [body, pointer] of [
      [change({ 'backchannel.logout.url': 'http://rp.example' }), '/attributes/backchannel.logout.url'],
      [
        change({ 'backchannel.logout.session.required': 'maybe' }),
        '/attributes/backchannel.logout.session.required',
      ],
      [change({ 'id.token.signed.response.alg': 'HS512' }), '/attributes/id.token.signed.response.alg'],
      [
        change({ 'id.token.encrypted.response.alg': 'RSA1_5' }),
        '/attributes/id.token.encrypted.response.alg',
      ],
      [keycloak('another'), '/clientId'],
      [
        { oidc_logout: { backchannel_logout_urls: [uriOf('a'), uriOf('b')] } },
        '/oidc_logout/backchannel_logout_urls/1',
      ],
    ] as const) {
      const refused = await call('PUT', pathOf('faulty'), body)
      expect([refused.status, refused.body.errors?.map((fault) => fault.pointer)]).toEqual([400, [pointer]])
    }
  })

  test('gets the notices of an import in the answer to a change, and only there', async () => {
    const noticesOf = async (body: object) => {
      const put = await call('PUT', pathOf('noticed'), body)
      return put.body.status.notices?.map(({ code, pointer }) => [code, pointer])
    }
    expect(await noticesOf({ backchannel_logout_uri: uriOf('noticed') })).toEqual([])
    expect(await noticesOf({ client_name: 'Machine' })).toEqual([['no_endpoint', null]])
    expect(await noticesOf({ frontchannel_logout_uri: uriOf('noticed') })).toEqual([
      ['frontchannel_only', '/frontchannel_logout_uri'],
    ])
    const unread = { logout: { backchannel: { url: uriOf('noticed') } } }
    expect(await noticesOf({ client_name: 'Unread', ...unread })).toEqual([
      ['endpoint_unread', '/logout/backchannel/url'],
    ])
    const patched = await call('PATCH', pathOf('noticed'), { client_name: 'Still unread' })
    expect(patched.body.status.notices).toEqual([
      {
        code: 'endpoint_unread',
        pointer: '/logout/backchannel/url',
        detail:
          'Curfew does not use the back-channel URL of noticed at /logout/backchannel/url. Register it as backchannel_logout_uri.',
      },
    ])
    const { body: read } = await call('GET', pathOf('noticed'))
    expect(read.status).not.toHaveProperty('notices')
    // An answer that is put back changes nothing.
    const back = await call('PUT', pathOf('noticed'), patched.body)
    expect(back.status).toBe(200)
    expect((await call('GET', pathOf('noticed'))).body).toEqual(read)
    const encrypted = {
      ...{ backchannel_logout_uri: uriOf('noticed'), jwks_uri: 'https://noticed.rp.example/jwks' },
      id_token_encrypted_response_alg: 'RSA-OAEP-256',
    }
    expect(await noticesOf(encrypted)).toEqual([['relay_unreadable', null]])
  })

  test('may have unsupported settings while it has no logout endpoint', async () => {
    const body = { name: 'M2M', jwt_configuration: { alg: 'HS256' }, app_type: 'non_interactive' }
    const put = await call('PUT', pathOf('machine'), body)
    expect([put.status, put.body.status]).toMatchObject([201, { format: 'auth0', endpoints: [] }])
    const withEndpoint = await call('PATCH', pathOf('machine'), { backchannel_logout_uri: uriOf('machine') })
    expect([withEndpoint.status, withEndpoint.body.errors]).toMatchObject([
      400,
      [{ pointer: '/jwt_configuration/alg' }],
    ])
  })
})

describe('registration', () => {
  test.each([
    [
      'a required sid at an issuer without sids',
      { backchannel_logout_session_required: true },
      '/backchannel_logout_session_required',
      /must be false.*sid_supported/,
    ],
  ])('refuses %s', async (_what, body, pointer, words) => {
    const put = await call('PUT', pathOf('a', 'sidless'), { backchannel_logout_uri: uriOf('a'), ...body })
    expect([put.status, put.body.errors]).toEqual([400, [{ pointer, detail: expect.stringMatching(words) }]])
  })

  test('refuses an algorithm without a key if the issuer has keys of its own, until it has one', async () => {
    await putIssuerWithKey('ownkeys')
    const put = (id_token_signed_response_alg: string) =>
      call('PUT', pathOf('own', 'ownkeys'), {
        backchannel_logout_uri: uriOf('own'),
        id_token_signed_response_alg,
      })
    const refused = await put('RS256')
    expect([refused.status, refused.body.errors]).toEqual([
      400,
      [
        {
          pointer: '/id_token_signed_response_alg',
          detail: expect.stringContaining('keys of its own (ES256)'),
        },
      ],
    ])
    expect((await put('ES256')).status).toBe(201)
    await curfew.client.addKey('ownkeys', { alg: 'RS256' })
    expect((await put('RS256')).status).toBe(200)
    expect((await curfew.client.getJwks('ownkeys')).keys).toHaveLength(2)
  })

  test('refuses tokens without the sid that is required', async () => {
    const put = await call('PUT', pathOf('torn'), {
      backchannel_logout_uri: uriOf('torn'),
      backchannel_logout_session_required: true,
      curfew: { subject_claims: 'sub' },
    })
    expect([put.status, put.body.errors?.[0]?.pointer]).toEqual([400, '/curfew/subject_claims'])
  })

  test('accepts the URI of another client of the issuer, because tokens name their client', async () => {
    const body = { backchannel_logout_uri: uriOf('common') }
    await call('PUT', pathOf('first'), { curfew: { endpoints: [{ name: 'eu', uri: uriOf('common') }] } })
    expect((await call('PUT', pathOf('second'), body)).status).toBe(201)
    expect((await call('PUT', pathOf('third'), body)).status).toBe(201)
  })

  test('allows other changes of a client whose algorithm has no key', async () => {
    await putIssuerWithKey('keyless')
    const line = JSON.stringify({ client_id: 'rs', backchannel_logout_uri: uriOf('rs') })
    await curfew.client.importRelyingParties('keyless', line)
    const path = pathOf('rs', 'keyless')
    expect((await call('PATCH', path, { curfew: { enabled: false } })).status).toBe(200)
    const other = await call('PATCH', path, { id_token_signed_response_alg: 'PS256' })
    expect([other.status, other.body.errors?.[0]?.pointer]).toEqual([400, '/id_token_signed_response_alg'])
  })
})

const clients = (...ids: readonly string[]): AccessFilter => ({
  kind: 'clients',
  issuer: ISSUER as IssuerName,
  iss: ISS as Issuer,
  clients: new Set(ids as readonly ClientId[]),
})

describe('a credential bound', () => {
  const scopes = ['clients:read', 'clients:write'] as const

  test('to clients sees and changes only these', async () => {
    for (const clientId of ['mine', 'theirs']) await call('PUT', pathOf(clientId), {})
    const key = curfew.keyBoundTo(clients('mine', 'new'), ...scopes)
    const list = await call('GET', listOf(ISSUER), undefined, key)
    expect(list.body.items?.map(({ client_id }) => client_id)).toEqual(['mine'])
    expect((await call('PUT', pathOf('new'), {}, key)).status).toBe(201)
    expect((await call('GET', '/v1/issuers', undefined, key)).body.items).toEqual([])
    for (const [method, path] of [
      ['GET', pathOf('theirs')],
      ['PUT', pathOf('theirs')],
      ['PATCH', pathOf('theirs')],
      ['DELETE', pathOf('theirs')],
      ['GET', listOf('sidless')],
      ['GET', listOf('no-such')],
      ['POST', `${listOf(ISSUER)}/import`],
      ['DELETE', `/v1/issuers/${ISSUER}`],
    ] as const) {
      const body = ['PUT', 'PATCH', 'POST'].includes(method) ? {} : undefined
      expect([method, path, (await call(method, path, body, key)).status]).toEqual([method, path, 404])
    }
    const exported = await curfew.call('GET', listOf(ISSUER), undefined, {
      authorization: `Bearer ${key}`,
      accept: 'application/x-ndjson',
    })
    const lines = (await exported.text()).trimEnd().split('\n')
    expect(lines.map((line) => (JSON.parse(line) as RelyingParty).client_id)).toEqual(['mine', 'new'])
  })

  test('to an issuer sees only that issuer', async () => {
    const access: AccessFilter = { kind: 'issuer', issuer: ISSUER as IssuerName, iss: ISS as Issuer }
    const key = curfew.keyBoundTo(access, ...scopes)
    const { body } = await call('GET', '/v1/issuers', undefined, key)
    expect(body.items?.map(({ name }) => name)).toEqual([ISSUER])
    expect((await call('GET', listOf('sidless'), undefined, key)).status).toBe(404)
    expect((await call('GET', listOf(ISSUER), undefined, key)).status).toBe(200)
  })

  test('to clients cannot allow networks, but may keep those that an admin allowed', async () => {
    const key = curfew.keyBoundTo(clients('inner'), ...scopes)
    const body = { curfew: { allowed_networks: ['10.0.0.0/8'] } }
    const refused = await call('PUT', pathOf('inner'), body, key)
    expect([refused.status, refused.body.errors?.[0]?.pointer]).toEqual([400, '/curfew/allowed_networks/0'])
    expect((await call('PUT', pathOf('inner'), body)).status).toBe(201)
    expect((await call('PUT', pathOf('inner'), { ...body, client_name: 'Inner' }, key)).status).toBe(200)
    const wider = { curfew: { allowed_networks: ['10.0.0.0/8', '127.0.0.0/8'] } }
    expect((await call('PATCH', pathOf('inner'), wider, key)).status).toBe(400)
    expect((await call('PATCH', pathOf('inner'), { curfew: { allowed_networks: [] } }, key)).status).toBe(200)
    expect((await call('PUT', pathOf('inner'), body, key)).status).toBe(200)
    // The networks are narrower than those of its issuer. It cannot go back to those.
    await curfew.client.putIssuer('wide', {
      iss: 'https://wide.example',
      defaults: { allowed_networks: ['10.0.0.0/8'] },
    })
    await call('PUT', pathOf('narrow', 'wide'), {
      backchannel_logout_uri: uriOf('narrow'),
      curfew: { allowed_networks: [] },
    })
    const owner = curfew.keyBoundTo(
      {
        kind: 'clients',
        issuer: 'wide' as never,
        iss: 'https://wide.example' as never,
        clients: new Set(['narrow' as never]),
      },
      'clients:write',
    )
    const back = await call('PATCH', pathOf('narrow', 'wide'), { curfew: null }, owner)
    expect([back.status, back.body.curfew]).toEqual([200, { allowed_networks: [] }])
  })
})
