import { type RelyingParty, RelyingPartySettings } from '@curfew/contract'
import { SIGNING_ALGORITHMS } from '@curfew/domain'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Curfew, ISS, ISSUER, openCurfew } from '../support/curfew.ts'

// Goal: a client is registered as given, or refused with the member to fix. No secret is stored or shown.
// Method: the real console over HTTP, and SQL to search the tables for secrets.

let curfew: Curfew
beforeAll(async () => {
  // The deployment allows no networks. A relying party names its own.
  curfew = await openCurfew({ workers: 0, allowedNetworks: [] })
})
afterAll(() => curfew.stop())

const PATH = `/v1/issuers/${ISSUER}/relying-parties`
const URI = 'https://rp.example/logout'
/** Every client has a URI of its own. */
const uriOf = (clientId: string) => `https://${clientId.toLowerCase()}.rp.example/logout`

async function faults(path: string, body: unknown, status = 400): Promise<readonly string[]> {
  const response = await curfew.call('PUT', path, body)
  const problem = (await response.json()) as { errors?: readonly { pointer: string; detail: string }[] }
  expect([response.status, response.headers.get('content-type')]).toEqual([
    status,
    expect.stringMatching(/^application\/problem\+json/),
  ])
  for (const { detail } of problem.errors ?? []) expect(detail.length).toBeGreaterThan(5)
  return (problem.errors ?? []).map(({ pointer }) => pointer)
}

describe('an issuer', () => {
  test('is registered, read back, changed and listed', async () => {
    const body = {
      iss: 'https://two.example/realms/a',
      sla: { within_ms: 2_000, objective: 0.99, window_days: 28 },
      defaults: { concurrency: 4 },
    }
    const created = await curfew.call('PUT', '/v1/issuers/two', body)
    expect(created.status).toBe(201)
    expect(await created.json()).toMatchObject({ name: 'two', ...body })
    const changed = await curfew.call('PUT', '/v1/issuers/two', { ...body, defaults: {} })
    expect(changed.status).toBe(200)
    expect(await curfew.client.getIssuer('two')).toMatchObject({ ...body, defaults: {} })
    const list = (await (await curfew.call('GET', '/v1/issuers')).json()) as { items: { name: string }[] }
    expect(list.items.map(({ name }) => name)).toEqual([ISSUER, 'two'])
  })

  test('keeps its iss: another iss under its name, or its iss under another name, is a conflict', async () => {
    expect(await faults(`/v1/issuers/${ISSUER}`, { iss: 'https://other.example' }, 409)).toEqual(['/iss'])
    expect(await faults('/v1/issuers/again', { iss: ISS }, 409)).toEqual(['/iss'])
    // An `iss` is compared byte for byte, so a final slash makes another one.
    expect((await curfew.call('PUT', '/v1/issuers/slash', { iss: `${ISS}/` })).status).toBe(201)
    expect(await curfew.client.getIssuer(ISSUER)).toMatchObject({ iss: ISS })
  })

  test.each([
    ['no iss', {}, '/iss'],
    ['an iss that is not a URL', { iss: 'idp.example' }, '/iss'],
    ['an iss that no URL parser accepts', { iss: 'https://[' }, '/iss'],
    ['an iss with a query', { iss: `${ISS}?a` }, '/iss'],
    ['an iss with a fragment', { iss: `${ISS}#a` }, '/iss'],
    ['an iss of another scheme', { iss: 'ftp://idp.example' }, '/iss'],
    ['an objective of 1', { iss: ISS, sla: { within_ms: 1, objective: 1 } }, '/sla/objective'],
    ['an SLA without an objective', { iss: ISS, sla: { within_ms: 1 } }, '/sla/objective'],
    [
      'a window of a century',
      { iss: ISS, sla: { within_ms: 1, objective: 0.9, window_days: 36_500 } },
      '/sla/window_days',
    ],
    ['an unknown member', { iss: ISS, name: 'x' }, '/name'],
    ['an unknown default', { iss: ISS, defaults: { retries: 3 } }, '/defaults/retries'],
    [
      'an invalid network',
      { iss: ISS, defaults: { allowed_networks: ['10.0.0.0/8', '10.0.0.0/33'] } },
      '/defaults/allowed_networks/1',
    ],
  ])('with %s is refused', async (_what, body, pointer) => {
    expect(await faults('/v1/issuers/other', body)).toEqual([pointer])
  })

  test.each(['A', 'a_b', '-a', 'a-', 'a'.repeat(64), 'a.b'])('named %s is refused', async (name) => {
    expect(await faults(`/v1/issuers/${name}`, { iss: 'https://x.example' })).toEqual(['/issuer'])
  })

  test('with an unknown name is a 404', async () => {
    for (const path of ['/v1/issuers/none', '/v1/issuers/none/relying-parties', '/issuers/none/jwks.json']) {
      expect([path, (await curfew.call('GET', path)).status]).toEqual([path, 404])
    }
    expect((await curfew.call('PUT', '/v1/issuers/none/relying-parties/a', {})).status).toBe(404)
  })
})

describe('the metadata of a relying party', () => {
  const METADATA = {
    client_id: 'whole',
    client_name: 'Wiki',
    'client_name#de': 'Wiki, auf Deutsch 👋',
    redirect_uris: ['https://rp.example/cb'],
    contacts: ['ops@rp.example'],
    token_endpoint_auth_method: 'private_key_jwt',
    jwks_uri: 'https://rp.example/jwks.json',
    backchannel_logout_uri: `${URI}?tenant=a%20b&x`,
    backchannel_logout_session_required: true,
    frontchannel_logout_uri: 'https://rp.example/front',
    id_token_signed_response_alg: 'PS256',
    software_statement: null,
    'urn:our-own': { deep: [1, 2.5, { er: false }], empty: {} },
  }

  test('is kept and returned as given, whether Curfew knows it or not', async () => {
    const put = await curfew.call('PUT', `${PATH}/whole`, { ...METADATA, curfew: { timeout_ms: 500 } })
    expect(put.status).toBe(201)
    const expected = {
      ...METADATA,
      issuer: ISSUER,
      curfew: { timeout_ms: 500 },
      status: { enabled: true, disabled_reason: null },
    }
    expect(await put.json()).toMatchObject(expected)
    expect(await curfew.client.getRelyingParty(ISSUER, 'whole')).toMatchObject(expected)
  })

  test('is replaced as a whole by the next PUT', async () => {
    await curfew.call('PUT', `${PATH}/replaced`, { client_name: 'Before', contacts: ['a@b.example'] })
    const put = await curfew.call('PUT', `${PATH}/replaced`, { client_name: 'After' })
    expect(put.status).toBe(200)
    const seen = await curfew.client.getRelyingParty(ISSUER, 'replaced')
    expect(seen).toMatchObject({ client_name: 'After' })
    expect(seen).not.toHaveProperty('contacts')
  })

  test('can be read and put back, and members that Curfew added are not stored', async () => {
    const first = await curfew.client.putRelyingParty(ISSUER, 'round', {
      client_name: 'Round',
      backchannel_logout_uri: uriOf('round'),
    })
    const again = await curfew.client.putRelyingParty(ISSUER, 'round', first)
    const times = { status: { ...first.status, updated_at: again.status.updated_at } }
    expect(again).toEqual({ ...first, ...times })
    const { rows } = await curfew.db.query("select metadata from relying_parties where client_id = 'round'")
    expect(rows).toEqual([{ metadata: { client_name: 'Round', backchannel_logout_uri: uriOf('round') } }])
  })

  test('loses its secrets, which are neither stored nor returned', async () => {
    const secrets = {
      client_secret: 'hunter2-secret',
      client_secret_expires_at: 1,
      registration_access_token: 'hunter2-token',
    }
    const put = await curfew.call('PUT', `${PATH}/secretive`, { ...secrets, client_name: 'S' })
    expect(await put.text()).not.toContain('hunter2')
    expect(await (await curfew.call('GET', `${PATH}/secretive`)).text()).not.toContain('secret"')
    for (const table of ['relying_parties', 'bindings', 'issuers', 'signing_keys']) {
      const { rows } = await curfew.db.query(`select * from ${table}`)
      expect(JSON.stringify(rows)).not.toContain('hunter2')
    }
    expect(curfew.lines.join('')).not.toContain('hunter2')
  })

  test.each([
    ['a fragment', { backchannel_logout_uri: `${URI}#x` }, '/backchannel_logout_uri'],
    ['an empty fragment', { backchannel_logout_uri: `${URI}#` }, '/backchannel_logout_uri'],
    ['http', { backchannel_logout_uri: 'http://rp.example/logout' }, '/backchannel_logout_uri'],
    ['another scheme', { backchannel_logout_uri: 'file:///etc/passwd' }, '/backchannel_logout_uri'],
    ['a relative address', { backchannel_logout_uri: '/logout' }, '/backchannel_logout_uri'],
    ['a user and password', { backchannel_logout_uri: 'https://a:b@rp.example/' }, '/backchannel_logout_uri'],
    ['a private address', { backchannel_logout_uri: 'https://10.1.2.3/logout' }, '/backchannel_logout_uri'],
    ['loopback', { backchannel_logout_uri: 'https://127.0.0.1/logout' }, '/backchannel_logout_uri'],
    [
      'loopback in another notation',
      { backchannel_logout_uri: 'https://0x7f.1/logout' },
      '/backchannel_logout_uri',
    ],
    ['loopback in IPv6', { backchannel_logout_uri: 'https://[::1]/logout' }, '/backchannel_logout_uri'],
    [
      'loopback mapped into IPv6',
      { backchannel_logout_uri: 'https://[::ffff:127.0.0.1]/logout' },
      '/backchannel_logout_uri',
    ],
    [
      'the cloud metadata address',
      { backchannel_logout_uri: 'https://169.254.169.254/' },
      '/backchannel_logout_uri',
    ],
    ['a space', { backchannel_logout_uri: 'https://rp.example/a b' }, '/backchannel_logout_uri'],
    ['a line feed', { backchannel_logout_uri: 'https://rp.example/a\nb' }, '/backchannel_logout_uri'],
    ['the algorithm none', { id_token_signed_response_alg: 'none' }, '/id_token_signed_response_alg'],
    ['a symmetric algorithm', { id_token_signed_response_alg: 'HS256' }, '/id_token_signed_response_alg'],
    [
      'an algorithm in lower case',
      { id_token_signed_response_alg: 'rs256' },
      '/id_token_signed_response_alg',
    ],
    ['another client_id than its own', { client_id: 'other' }, '/client_id'],
    [
      'a flag in quotes',
      { backchannel_logout_session_required: 'true' },
      '/backchannel_logout_session_required',
    ],
    ['an invalid network', { curfew: { allowed_networks: ['localhost'] } }, '/curfew/allowed_networks/0'],
  ])('with %s is refused, and the member is named', async (_what, body, pointer) => {
    expect(await faults(`${PATH}/faulty`, { backchannel_logout_uri: URI, ...body })).toEqual([pointer])
    expect((await curfew.call('GET', `${PATH}/faulty`)).status).toBe(404)
  })

  test('may name private networks, for itself only', async () => {
    const body = {
      backchannel_logout_uri: 'http://10.1.2.3/logout',
      curfew: { allowed_networks: ['10.1.0.0/16'] },
    }
    expect((await curfew.call('PUT', `${PATH}/private`, body)).status).toBe(201)
    expect(await faults(`${PATH}/public`, { ...body, curfew: {} })).toEqual(['/backchannel_logout_uri'])
    expect(await faults(`${PATH}/public`, { ...body, backchannel_logout_uri: 'http://10.2.0.1/' })).toEqual([
      '/backchannel_logout_uri',
    ])
  })
})

describe("Curfew's settings of a relying party", () => {
  const WRONG: Readonly<Record<keyof RelyingPartySettings, readonly unknown[]>> = {
    subject_claims: ['none', 1, ['sid']],
    token_type: ['at+jwt', 'logout+JWT', ['JWT']],
    already_ended_errors: [
      'unknown_session',
      [''],
      [1],
      ['a\u0000b'],
      ['x', 'x'],
      ['unknown_session', 'invalid_request'],
      ['Partial_Logout'],
      ['x'.repeat(256)],
      Array.from({ length: 21 }, (_, index) => `e${index}`),
    ],
    timeout_ms: [99, 30_001, 1_000.5, '1000'],
    concurrency: [0, 257, 1.5, '16'],
    trace_context: ['true', 1],
    rate_per_second: [0, -1, 10_001, '5'],
    retry_schedule_ms: [
      1_000,
      [999],
      [86_400_001],
      ['1000'],
      [1_000.5],
      Array.from({ length: 33 }, () => 1_000),
    ],
    allowed_networks: [
      '10.0.0.0/8',
      [''],
      ['10.0.0.0'],
      ['10.0.0.0/-1'],
      ['::/129'],
      ['10.0.0.0/8 '],
      Array.from({ length: 33 }, () => '10.0.0.0/8'),
    ],
    tls: ['pem', { ca: 1 }, { ca: 'pem' }, { key: 'pem' }, { client_key: 'pem' }],
    endpoints: [
      [{ uri: URI }],
      [{ name: 'EU', uri: `${URI}/eu` }],
      [{ name: 'main', uri: `${URI}/eu` }],
      [{ name: 'eu', uri: URI }],
      [{ name: 'eu', uri: `${URI}/eu`, enabled: 'yes' }],
      ['a', 'b'].map((path) => ({ name: 'eu', uri: `${URI}/${path}` })),
    ],
    confirmation_uri: [
      '',
      1,
      'http://rp.example/confirmed',
      'https://10.1.2.3/confirmed',
      'mailto:a@rp.example',
    ],
    confirmation_deadline_ms: [999, 86_400_001, 1_000.5, '1000', 30_000],
    confirmation_secret: ['secret', 'whsec_dG9vIHNob3J0', `whsec_${'A'.repeat(32)}`],
    sla: [
      1,
      { within_ms: 0 },
      { within_ms: 1.5 },
      { objective: 1 },
      { objective: '0.9' },
      { window_days: 7 },
    ],
    channels: [
      [],
      { carrier_pigeon: {} },
      { backchannel: { loft: 1 } },
      { backchannel: { enabled: 'yes' } },
      { backchannel: { secret: 'hush' } },
      { backchannel: { fallback_for: 'backchannel' } },
      { backchannel: { fallback_for: 'carrier_pigeon' } },
      { backchannel: { sla: { counts: 'perhaps' } } },
    ],
    enabled: ['false', 0],
  }
  test('have test cases for every member', () => {
    expect(Object.keys(WRONG).toSorted()).toEqual(Object.keys(RelyingPartySettings.properties).toSorted())
  })

  const cases = Object.entries(WRONG).flatMap(([member, values]) =>
    values.map((value) => ({ member, shown: JSON.stringify(value).slice(0, 40), value })),
  )
  test.each(cases)('$member may not be $shown', async ({ member, value }) => {
    const party = await faults(`${PATH}/faulty`, { backchannel_logout_uri: URI, curfew: { [member]: value } })
    expect(party.length).toBeGreaterThan(0)
    for (const pointer of party) expect(`${pointer}/`).toMatch(new RegExp(`^/curfew/${member}/`))
    const issuer = await faults('/v1/issuers/faulty', {
      iss: 'https://faulty.example',
      defaults: { [member]: value },
    })
    for (const pointer of issuer) expect(`${pointer}/`).toMatch(new RegExp(`^/defaults/${member}/`))
  })

  test('refuse unknown members', async () => {
    expect(await faults(`${PATH}/faulty`, { curfew: { no_such: 1 } })).toEqual(['/curfew/no_such'])
  })

  test('disable a relying party with enabled: false, and its status says so', async () => {
    const put = await curfew.client.putRelyingParty(ISSUER, 'off', {
      backchannel_logout_uri: uriOf('off'),
      curfew: { enabled: false },
    })
    expect(put.status).toMatchObject({ enabled: false, disabled_reason: 'disabled by its owner' })
    await curfew.client.putRelyingParty(ISSUER, 'off', { backchannel_logout_uri: uriOf('off') })
    expect((await curfew.client.getRelyingParty(ISSUER, 'off')).status.enabled).toBe(true)
  })
})

describe('a client_id', () => {
  test.each([
    'a/b',
    'https://rp.example/',
    'a b',
    '%2F',
    '../x',
    "o'neil",
    '"',
    'x'.repeat(255),
    'ä',
    'a\tb',
    'x'.repeat(256),
  ])('is registered and found again, or refused: %s', async (clientId) => {
    const path = `${PATH}/${encodeURIComponent(clientId)}`
    const put = await curfew.call('PUT', path, { client_id: clientId })
    if (/^[\x20-\x7e]{1,255}$/.test(clientId)) {
      expect(put.status).toBe(201)
      const seen = (await (await curfew.call('GET', path)).json()) as RelyingParty
      expect(seen.client_id).toBe(clientId)
      expect((await curfew.call('GET', seen.links.self)).status).toBe(200)
    } else {
      expect(put.status).toBe(400)
    }
  })

  test('may be the same at two issuers', async () => {
    await curfew.client.putIssuer('three', { iss: 'https://three.example' })
    await curfew.client.putRelyingParty('three', 'same', { client_name: 'Three' })
    await curfew.client.putRelyingParty(ISSUER, 'same', { client_name: 'Main' })
    expect(await curfew.client.getRelyingParty('three', 'same')).toMatchObject({ client_name: 'Three' })
  })
})

describe('lists', () => {
  test('come page by page without gaps or repeats', async () => {
    await curfew.client.putIssuer('many', { iss: 'https://many.example' })
    const names = [...'aAbBeZ1~ ', 'a-1', 'a_1', 'a.1']
    for (const name of names) await curfew.client.putRelyingParty('many', name, {})
    for (const limit of [1, 5, 11, 12, 500]) {
      const seen: string[] = []
      let cursor = ''
      do {
        const response = await curfew.call('GET', `/v1/issuers/many/relying-parties?limit=${limit}${cursor}`)
        const page = (await response.json()) as { items: { client_id: string }[]; next_cursor: string | null }
        expect(page.items.length).toBeLessThanOrEqual(limit)
        seen.push(...page.items.map(({ client_id }) => client_id))
        cursor = page.next_cursor === null ? '' : `&cursor=${page.next_cursor}`
      } while (cursor !== '')
      expect(seen.toSorted()).toEqual(names.toSorted())
    }
  })

  test.each([
    'limit=0',
    'limit=501',
    'limit=x',
    'limit=',
    'limit=1.5',
    'cursor=%21',
    'cursor=AAA',
    'limit=1&limit=2',
  ])('are refused with %s', async (query) => {
    for (const path of ['/v1/issuers', PATH]) {
      expect((await curfew.call('GET', `${path}?${query}`)).status).toBe(400)
    }
  })
})

describe('the published keys', () => {
  test('exist as soon as a relying party needs them, public and cacheable', async () => {
    await curfew.client.putIssuer('keys', { iss: 'https://keys.example' })
    const url = new URL('/issuers/keys/jwks.json', curfew.url)
    expect(await (await fetch(url)).json()).toEqual({ keys: [] })
    for (const algorithm of SIGNING_ALGORITHMS) {
      await curfew.client.putRelyingParty('keys', algorithm, {
        backchannel_logout_uri: uriOf(algorithm),
        id_token_signed_response_alg: algorithm,
      })
      // A second relying party with the same algorithm needs no new key.
      await curfew.client.putRelyingParty('keys', `${algorithm}-2`, {
        backchannel_logout_uri: uriOf(`${algorithm}-2`),
        id_token_signed_response_alg: algorithm,
      })
    }
    const response = await fetch(url)
    expect(response.headers.get('cache-control')).toMatch(/^public, max-age=[1-9]\d*$/)
    const { keys } = (await response.json()) as { keys: Record<string, unknown>[] }
    // A key for EdDSA has no alg, because its tokens may also say Ed25519.
    expect(keys.map(({ alg = 'EdDSA' }) => alg).toSorted()).toEqual([...SIGNING_ALGORITHMS].toSorted())
    expect(new Set(keys.map(({ kid }) => kid)).size).toBe(keys.length)
    const members = { RSA: ['e', 'kty', 'n'], EC: ['crv', 'kty', 'x', 'y'], OKP: ['crv', 'kty', 'x'] }
    for (const key of keys) {
      const alg = key.kty === 'OKP' ? [] : ['alg']
      const expected = [...members[key.kty as keyof typeof members], ...alg, 'kid', 'use']
      expect(Object.keys(key).toSorted()).toEqual(expected.toSorted())
      expect(key.use).toBe('sig')
    }
  })

  test('are made once, however many relying parties need one at the same time', async () => {
    await curfew.client.putIssuer('rush', { iss: 'https://rush.example' })
    await Promise.all(
      Array.from({ length: 8 }, (_, index) =>
        curfew.client.putRelyingParty('rush', `rp-${index}`, {
          backchannel_logout_uri: uriOf(`rp-${index}`),
          id_token_signed_response_alg: 'ES256',
        }),
      ),
    )
    expect((await curfew.client.getJwks('rush')).keys).toHaveLength(1)
  })
})
