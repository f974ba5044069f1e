import { generateKeyPairSync } from 'node:crypto'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import type { Imported, ImportFault } from '@curfew/contract'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Curfew, openCurfew } from '../support/curfew.ts'

// Goal: thousands of clients are imported as a whole or not at all, with every fault by its line. An export equals its import.
// Method: the real console over HTTP and a real database. Random clients are exported and imported again.

let curfew: Curfew
beforeAll(async () => {
  curfew = await openCurfew({ workers: 0, allowedNetworks: [] })
})
afterAll(() => curfew.stop())

const NDJSON = 'application/x-ndjson'
const linesOf = (clients: readonly unknown[]) =>
  clients.map((client) => `${JSON.stringify(client)}\n`).join('')
const clientOf = (clientId: string, more: object = {}) => ({
  client_id: clientId,
  backchannel_logout_uri: `https://${clientId}.rp.example/logout`,
  ...more,
})

interface Problem {
  readonly detail: string
  readonly faults: readonly ImportFault[]
  readonly faults_left_out: number
}

let issuers = 0
/** Registers a new issuer. @returns calls that import and export its relying parties. */
async function open() {
  issuers += 1
  const issuer = `imported-${issuers}`
  await curfew.client.putIssuer(issuer, { iss: `https://${issuer}.example` })
  const path = `/v1/issuers/${issuer}/relying-parties`
  return {
    issuer,
    path,
    async post(text: string, query = ''): Promise<{ status: number; body: Imported & Problem }> {
      const response = await curfew.call('POST', `${path}/import${query}`, text, { 'content-type': NDJSON })
      return { status: response.status, body: (await response.json()) as Imported & Problem }
    },
    async exported(): Promise<string> {
      const response = await curfew.call('GET', path, undefined, { accept: NDJSON })
      expect([response.status, response.headers.get('content-type')]).toEqual([200, NDJSON])
      return response.text()
    },
  }
}
const revision = async () =>
  (await curfew.db.query<{ revision: number }>('select revision from registry_revision')).rows[0]?.revision ??
  0
const audited = async (issuer: string) =>
  (await curfew.db.query("select 1 from audit where object like '/v1/issuers/' || $1 || '/%'", [issuer])).rows
    .length

const insertEvent = (iss: string, { sub, sid = null }: { sub: string; sid?: string | null }) =>
  curfew.db.query(
    `insert into events (id, given_id, digest, iss, sub, sid, scope, include_initiator, occurred_stated, requested_at, lane, occurred_at, accepted_at, planned_at, plan_basis)
     select id, id, '\\x00', $1, $2, $3, case when $3::text is null then 'subject' else 'session' end, false, true, now(), 'interactive', now(), now(), now(), 'registered'
       from gen_random_uuid() as id`,
    [iss, sub, sid],
  )

describe('an import', () => {
  test('registers all clients in one change and audits each, and a repeated import changes nothing', async () => {
    const { issuer, post } = await open()
    const clients = Array.from({ length: 50 }, (_, index) => clientOf(`${issuer}-${index}`))
    const before = await revision()
    expect(await post(linesOf(clients))).toEqual({
      status: 200,
      body: {
        ...{ dry_run: false, total: 50, created: 50, changed: 0, unchanged: 0, passed_over: [] },
        endpoints: { clients: 50, channels: { backchannel: 50 } },
        skipped: { total: 0, faults: [], faults_left_out: 0 },
        notices: [],
      },
    })
    // One entry for every client, and one for the key that they needed.
    expect([await revision(), await audited(issuer)]).toEqual([before + 1, 51])
    const next = clients.map((client, index) => (index < 3 ? { ...client, client_name: 'New' } : client))
    expect((await post(linesOf(next))).body).toMatchObject({ created: 0, changed: 3, unchanged: 47 })
    expect((await post(linesOf(next))).body).toMatchObject({ changed: 0, unchanged: 50 })
    expect([await revision(), await audited(issuer)]).toEqual([before + 2, 54])
    expect((await curfew.client.getJwks(issuer)).keys).toHaveLength(1)
  })

  test('accepts several products, empty lines and both line ends in one body', async () => {
    const { issuer, path, post, exported } = await open()
    const text = [
      JSON.stringify({
        clientId: `${issuer}-kc`,
        attributes: { 'backchannel.logout.url': `https://${issuer}-kc.example/` },
        secret: 'hush',
      }),
      '',
      JSON.stringify({
        client_id: `${issuer}-a0`,
        oidc_logout: { backchannel_logout_urls: ['https://a0.example/'] },
      }),
      JSON.stringify({
        credentials: { oauthClient: { client_id: `${issuer}-ok`, client_secret: 'hush' } },
        status: 'ACTIVE',
      }),
      JSON.stringify(clientOf(`${issuer}-ory`)),
    ].join('\r\n')
    expect((await post(text)).body).toMatchObject({ created: 4 })
    const { items } = (await (await curfew.call('GET', path)).json()) as {
      items: { status: { format: string } }[]
    }
    expect(await exported()).toContain('"status":"ACTIVE"')
    expect(items.map(({ status }) => status.format)).toEqual(['auth0', 'keycloak', 'okta', 'oidc'])
  })

  test('with faults lists all of them by line, and applies nothing', async () => {
    const { issuer, path, post } = await open()
    await curfew.client.putRelyingParty(issuer, 'there', { backchannel_logout_uri: 'https://there.example/' })
    const before = await revision()
    const text = [
      JSON.stringify(clientOf('good')),
      '{ "client_id": ',
      JSON.stringify(clientOf('http', { backchannel_logout_uri: 'http://rp.example/' })),
      '',
      JSON.stringify({ client_name: 'unnamed' }),
      JSON.stringify(clientOf('good')),
      JSON.stringify(clientOf('twin', { backchannel_logout_uri: 'https://there.example/' })),
      JSON.stringify(clientOf('mute', { backchannel_logout_uri: 5 })),
      JSON.stringify(clientOf('loose', { curfew: { timeout: 1 } })),
      '[]',
      JSON.stringify(clientOf('ä')),
    ].join('\n')
    const { status, body } = await post(text)
    expect([status, body.detail]).toEqual([
      400,
      expect.stringMatching(/^8 of 10 lines .*Nothing was changed/),
    ])
    expect(body.faults.map(({ line, client_id, pointer }) => [line, client_id, pointer])).toEqual([
      [2, null, ''],
      [3, 'http', '/backchannel_logout_uri'],
      [5, null, '/client_id'],
      [6, 'good', '/client_id'],
      [8, null, '/backchannel_logout_uri'],
      [9, null, '/curfew/timeout'],
      [10, null, ''],
      [11, null, '/client_id'],
    ])
    expect(await revision()).toBe(before)
    expect((await curfew.call('GET', `${path}/good`)).status).toBe(404)
  })

  test('with skip_invalid registers the valid lines, and lists the faults of the others', async () => {
    const { path, post } = await open()
    const lines = linesOf([
      clientOf('good'),
      clientOf('http', { backchannel_logout_uri: 'http://rp.example/' }),
      clientOf('good', { client_name: 'again' }),
      clientOf('last'),
    ])
    const skipped = {
      total: 2,
      faults: [
        { line: 2, client_id: 'http', pointer: '/backchannel_logout_uri', detail: expect.any(String) },
        { line: 3, client_id: 'good', pointer: '/client_id', detail: 'is in line 1 already' },
      ],
    }
    const endpoints = { clients: 2, channels: { backchannel: 2 } }
    expect(await post(lines, '?skip_invalid=true&dry_run=true')).toMatchObject({
      status: 200,
      body: { total: 2, created: 2, endpoints, skipped },
    })
    expect((await curfew.call('GET', `${path}/last`)).status).toBe(404)
    expect(await post(lines, '?skip_invalid=true')).toMatchObject({
      status: 200,
      body: { total: 2, created: 2, endpoints, skipped },
    })
    expect((await curfew.call('GET', `${path}/last`)).status).toBe(200)
    expect((await curfew.call('GET', `${path}/http`)).status).toBe(404)
  })

  test("passes over an Okta organization's applications without an OAuth client", async () => {
    const { post } = await open()
    const okta = (signOnMode: string, more: object) => ({
      ...{ id: '0oa1', label: `App ${signOnMode}`, signOnMode },
      ...more,
    })
    const uri = { backchannel_logout_uri: 'https://portal.example/logout' }
    const { body } = await post(
      linesOf([
        okta('SAML_2_0', { credentials: {}, settings: { signOn: { ssoAcsUrl: 'https://a.example' } } }),
        okta('BOOKMARK', { settings: { app: { url: 'https://b.example' } } }),
        okta('OPENID_CONNECT', {
          credentials: { oauthClient: { client_id: 'portal' } },
          settings: { oauthClient: uri },
        }),
      ]),
    )
    const names = ['App SAML_2_0', 'App BOOKMARK']
    const detail = 'Passed over 2 applications without an OAuth client.'
    const passed_over = [{ code: 'no_oauth_client', detail, total: 2, names }]
    expect(body).toMatchObject({ total: 1, passed_over, endpoints: { clients: 1 } })
  })

  test('registers clients that are disabled at Keycloak and says so, but passes over those without an endpoint or with faults', async () => {
    const { issuer, path, post } = await open()
    const keycloak = (clientId: string, more: object = {}) => ({
      ...{ clientId, protocol: 'openid-connect', enabled: true, ...more },
      attributes: {
        'backchannel.logout.url': `https://${clientId}.rp.example/logout`,
        ...Object(more).attributes,
      },
    })
    const HS256 = { 'id.token.signed.response.alg': 'HS256' }
    const disabled = (clientId: string, more: object = {}) => keycloak(clientId, { enabled: false, ...more })
    const put = await curfew.client.putRelyingParty(issuer, 'kept', disabled('kept'))
    expect(put.status.notices).toMatchObject([{ code: 'client_disabled', pointer: '/enabled' }])
    const lines = linesOf([
      keycloak('shop'),
      disabled('old'),
      disabled('unsigned', { attributes: HS256 }),
      disabled('kept', { attributes: HS256 }),
      disabled('typed', { name: 'x'.repeat(300) }),
      disabled('mute', { attributes: { 'backchannel.logout.url': '' } }),
      disabled('silent', { curfew: { enabled: false } }),
      clientOf('other', { enabled: false }),
    ])
    const { status, body } = await post(lines)
    expect(status).toBe(200)
    expect(body).toMatchObject({ total: 4, created: 4, endpoints: { clients: 4 } })
    const told = body.notices.filter(({ code }) => code === 'client_disabled')
    expect(told).toMatchObject([
      { client_ids: ['old'], detail: expect.stringMatching(/disabled 1 client\./) },
    ])
    expect(body.passed_over).toEqual([
      {
        ...{ code: 'disabled_with_faults', total: 2, names: ['unsigned', 'kept'] },
        detail: expect.stringContaining('with faults: /attributes/id.token.signed.response.alg must '),
      },
      {
        ...{ code: 'disabled_with_faults', total: 1, names: ['typed'] },
        detail: expect.stringContaining('with faults: /name must '),
      },
      {
        ...{ code: 'disabled_without_endpoint', total: 1, names: ['mute'] },
        detail: 'Passed over 1 client that the IdP has disabled, without a logout URL.',
      },
    ])
    expect((await curfew.call('GET', `${path}/old`)).status).toBe(200)
    for (const name of ['unsigned', 'typed', 'mute'])
      expect((await curfew.call('GET', `${path}/${name}`)).status).toBe(404)
    // The registration of a client that is passed over stays, and an export has it for the next import.
    const exported = await (await curfew.call('GET', path, undefined, { accept: NDJSON })).text()
    await curfew.client.putIssuer(`${issuer}-copy`, { iss: `https://${issuer}-copy.example` })
    const copied = await curfew.client.importRelyingParties(`${issuer}-copy`, exported)
    expect(copied).toMatchObject({ created: 5, passed_over: [] })
    // Faults of an export of Curfew stop its import, as the client is registered.
    const ours = await post(linesOf([disabled('ours', { attributes: HS256, curfew: {} })]))
    expect(ours.status).toBe(400)
  })

  test('warns of relative URLs of Keycloak without a rootUrl, and says where it takes them to be', async () => {
    const { issuer, post } = await open()
    const keycloak = (clientId: string, more: object = {}) => ({
      ...{ clientId, protocol: 'openid-connect', ...more },
      attributes: { 'backchannel.logout.url': `/${clientId}/out` },
    })
    const { body } = await post(
      linesOf([keycloak('one'), keycloak('two', { rootUrl: 'https://two.example' }), keycloak('three')]),
    )
    expect(body.notices).toEqual([
      {
        ...{ code: 'relative_to_idp', pointer: '/attributes/backchannel.logout.url', total: 2 },
        client_ids: ['one', 'three'],
        detail: expect.stringContaining(
          `takes it to be at https://${issuer}.example, the host of the issuer`,
        ),
      },
    ])
  })

  test('registers a client without an endpoint although other members are invalid, and names those members', async () => {
    const { path, post } = await open()
    const { status, body } = await post(
      linesOf([
        { client_id: 'mute', client_name: 5, backchannel_logout_session_required: 'no' },
        { client_id: 'empty', backchannel_logout_uri: '', id_token_signed_response_alg: 'none' },
        { clientId: 'long', protocol: 'openid-connect', name: 'x'.repeat(300) },
        clientOf('heard', { client_name: 'Heard' }),
      ]),
    )
    expect([status, body.endpoints]).toEqual([200, { clients: 1, channels: { backchannel: 1 } }])
    expect(body.notices.map(({ code, pointer, client_ids }) => [code, pointer, client_ids])).toEqual([
      ['member_left_out', '/client_name', ['mute']],
      ['member_left_out', '/backchannel_logout_session_required', ['mute']],
      ['no_endpoint', null, ['mute', 'empty', 'long']],
      ['member_left_out', '/backchannel_logout_uri', ['empty']],
      ['member_left_out', '/name', ['long']],
    ])
    expect((await curfew.call('PATCH', `${path}/mute`, { client_name: 'Mute' })).status).toBe(200)
    const faulty = await post(linesOf([clientOf('heard', { client_name: 5 })]))
    expect(faulty.body.faults).toMatchObject([{ client_id: 'heard', pointer: '/client_name' }])
  })

  test('warns of clients whose endpoint it cannot use', async () => {
    const { post } = await open()
    const { body } = await post(
      linesOf([
        { client_id: 'nested', sso: { 'back-channel': { logoutUrl: 'https://n.example/out' } } },
        { client_id: 'front', frontchannelLogoutUri: 'https://f.example/out' },
        { clientId: 'saml', protocol: 'saml', attributes: { 'saml.encrypt': 'false' } },
        clientOf('heard', { oidc_logout: { backchannel_logout_urls: ['https://heard.rp.example/logout'] } }),
      ]),
    )
    expect(body.notices.map(({ code, pointer, client_ids }) => [code, pointer, client_ids])).toEqual([
      ['endpoint_unread', '/sso/back-channel/logoutUrl', ['nested']],
      ['frontchannel_only', '/frontchannelLogoutUri', ['front']],
      ['saml_client', '/protocol', ['saml']],
    ])
  })

  test('warns of an algorithm without a key, with the command that makes it', async () => {
    const { issuer, post } = await open()
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    const jwk = { ...privateKey.export({ format: 'jwk' }), kid: 'theirs' }
    await curfew.client.addKey(issuer, { jwk, alg: 'ES256', sign_from: 'now' })
    const lines = linesOf([
      clientOf('es', { id_token_signed_response_alg: 'ES256' }),
      clientOf('rs'),
      { client_id: 'mute', id_token_signed_response_alg: 'PS256' },
    ])
    for (const query of ['?dry_run=true', '']) {
      const { status, body } = await post(lines, query)
      const notices = body.notices.filter(({ code }) => code !== 'no_endpoint')
      expect([status, notices]).toEqual([
        200,
        [
          expect.objectContaining({
            code: 'no_signing_key',
            detail: expect.stringContaining(`curfew keys generate --issuer ${issuer} --alg RS256`),
            client_ids: ['rs'],
          }),
        ],
      ])
    }
    // A change that leaves the algorithm is no fault, but has the notice too.
    const put = await curfew.client.putRelyingParty(issuer, 'rs', { ...clientOf('rs'), client_name: 'RS' })
    expect(put.status.notices).toMatchObject([{ code: 'no_signing_key' }])
    expect(
      (
        await curfew.client.putRelyingParty(
          issuer,
          'es',
          clientOf('es', { id_token_signed_response_alg: 'ES256' }),
        )
      ).status.notices,
    ).toEqual([])
  })

  test('warns of clients that require a session at an issuer whose logouts name only subjects', async () => {
    const { issuer, post } = await open()
    const iss = `https://${issuer}.example`
    const lines = linesOf([
      clientOf('strict', { backchannel_logout_session_required: true }),
      clientOf('any'),
    ])
    const warned = async () =>
      (await post(lines)).body.notices.flatMap(({ code, client_ids }) => [code, ...client_ids])
    expect(await warned()).toEqual([])
    await insertEvent(iss, { sub: 'alice' })
    expect(await warned()).toEqual(['session_required', 'strict'])
    const put = await curfew.client.putRelyingParty(issuer, 'strict', {
      ...clientOf('strict', { backchannel_logout_session_required: true }),
    })
    expect(put.status.notices?.map(({ code }) => code)).toEqual(['session_required'])
    await insertEvent(iss, { sub: 'alice', sid: 's1' })
    expect(await warned()).toEqual([])
  })

  test('with dry_run reports its effect and leaves no trace, not even a key', async () => {
    const { issuer, path, post } = await open()
    await curfew.client.putRelyingParty(issuer, 'old', {})
    const before = await revision()
    const lines = linesOf([clientOf('old'), clientOf('new', { id_token_signed_response_alg: 'EdDSA' })])
    expect(await post(lines, '?dry_run=true')).toMatchObject({
      status: 200,
      body: { dry_run: true, total: 2, created: 1, changed: 1, unchanged: 0 },
    })
    expect(await revision()).toBe(before)
    expect((await curfew.call('GET', `${path}/new`)).status).toBe(404)
    expect((await curfew.client.getJwks(issuer)).keys).toEqual([])
  })

  test('without lines, as JSON, or with too many lines is refused', async () => {
    const { path, post } = await open()
    for (const text of ['', '\n\n']) expect((await post(text)).status).toBe(400)
    expect((await curfew.call('POST', `${path}/import`, {})).status).toBe(415)
    expect((await post('{}\n'.repeat(20_001))).status).toBe(413)
    // Millions of lines are not even read, because logouts in the same process would wait.
    const delay = monitorEventLoopDelay({ resolution: 10 })
    const many = '1\n'.repeat(16_000_000)
    delay.enable()
    expect((await post(many)).status).toBe(413)
    delay.disable()
    expect(delay.max / 1e6).toBeLessThan(2_000)
  })

  test('of thousands of clients is one change', async () => {
    const { issuer, post, exported } = await open()
    const clients = Array.from({ length: 5_000 }, (_, index) =>
      clientOf(`${issuer}-${index}`, { redirect_uris: ['https://rp.example/cb'], contacts: ['a@b.example'] }),
    )
    expect((await post(linesOf(clients))).body).toMatchObject({ created: 5_000 })
    expect((await exported()).trimEnd().split('\n')).toHaveLength(5_000)
  })
})

describe('an export', () => {
  const uri = fc.tuple(fc.stringMatching(/^[a-z]{1,8}$/), fc.stringMatching(/^[a-z0-9/?&=%]{0,12}$/)).map(
    ([host, path]) =>
      (id: string) =>
        `https://${host}-${id}.example/${path.replaceAll('%', '%20')}`,
  )
  const client = fc.record(
    {
      client_name: fc.string({ unit: 'grapheme', maxLength: 20 }).filter((text) => !text.includes('\0')),
      backchannel_logout_session_required: fc.boolean(),
      id_token_signed_response_alg: fc.constantFrom('RS256', 'ES256'),
      contacts: fc.array(fc.constantFrom('a@b.example', 'c@d.example')),
      'urn:own': fc.constantFrom(null, 1.5, { deep: [true, 'x'] }, ''),
      attributes: fc.constantFrom({ a: 'b' }, {}),
      curfew: fc.record(
        {
          timeout_ms: fc.integer({ min: 100, max: 30_000 }),
          enabled: fc.boolean(),
          retry_schedule_ms: fc.array(fc.integer({ min: 1_000, max: 9_000 }), { maxLength: 3 }),
        },
        { requiredKeys: [] },
      ),
    },
    { requiredKeys: [] },
  )

  test('equals its import, and can be imported again here and at another issuer', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(client, uri, fc.boolean()), { maxLength: 8, minLength: 1 }),
        async (given) => {
          const [here, there] = [await open(), await open()]
          const clients = given.map(([members, uriOf, withUri], index) => ({
            client_id: `c-${index}`,
            ...members,
            ...(withUri && { backchannel_logout_uri: uriOf(`${index}`) }),
            curfew: {
              ...members.curfew,
              ...(withUri && {
                endpoints: [{ name: 'eu', uri: uriOf(`eu-${index}`), enabled: index % 2 === 0 }],
              }),
            },
          }))
          expect((await here.post(linesOf(clients))).status).toBe(200)
          const text = await here.exported()
          expect((await here.post(text)).body).toMatchObject({ unchanged: clients.length })
          expect((await there.post(text)).body).toMatchObject({ created: clients.length })
          expect(await there.exported()).toBe(text)
          const lines = text
            .trimEnd()
            .split('\n')
            .map((line) => JSON.parse(line) as { curfew?: object })
          expect(lines.map((line) => ({ ...line, curfew: line.curfew ?? {} }))).toEqual(clients)
        },
      ),
      { numRuns: 10 },
    )
  })

  test('of clients that were put one by one imports without a change, even if their bodies did not name them', async () => {
    const { path, exported, post } = await open()
    const bodies = {
      shop: { client_name: 'Shop', backchannel_logout_uri: 'https://shop.rp.example/logout' },
      mail: { clientId: 'mail', attributes: { 'backchannel.logout.url': 'https://mail.rp.example/logout' } },
    }
    for (const [clientId, body] of Object.entries(bodies))
      expect((await curfew.call('PUT', `${path}/${clientId}`, body)).status).toBe(201)
    expect((await post(await exported())).body).toMatchObject({ changed: 0, unchanged: 2 })
  })

  test('without clients is empty', async () => {
    expect(await (await open()).exported()).toBe('')
  })
})
