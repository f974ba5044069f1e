import type { LogoutEventInput, SessionInput } from '@curfew/contract'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type AdminAnswer, type AdminApi, openAdminApi } from '../support/admin-api.ts'
import { type Curfew, eventually, ISS, ISSUER, openCurfew } from '../support/curfew.ts'

// Goal: a logout ends sessions at the admin API that a registration declares, whatever the API answers, and its secret goes nowhere
// else.
// Method: an API on a real port; the whole pipeline over real HTTP and PostgreSQL.

let curfew: Curfew
beforeAll(async () => {
  curfew = await openCurfew({ bookkeepers: 1 })
})
afterAll(() => curfew.stop())

const SECRET = 'hush-admin'
let registered = 0

type Registered = AdminApi & { readonly clientId: string; readonly own: object }

/** Registers an API with requests for a session and for the subject. @param own changes the registration. */
async function register(own: (url: string) => object = () => ({})): Promise<Registered> {
  const api = await openAdminApi({ secret: SECRET })
  const clientId = `idp-${registered++}`
  const declared = {
    session: [{ method: 'DELETE', uri: `${api.url}/sessions/{sid}`, success: [204, 404] }],
    subject: [{ method: 'POST', uri: `${api.url}/users/{sub}/logout`, success: [204, 404] }],
    ...{ level: 'done', auth: { client_id: 'curfew', token_endpoint: `${api.url}/token` }, secret: SECRET },
    ...own(api.url),
  }
  const response = await put(clientId, declared)
  expect(response.status, await response.text()).toBe(201)
  return { ...api, clientId, own: declared, [Symbol.asyncDispose]: () => api[Symbol.asyncDispose]() }
}

function put(clientId: string, own: object): Promise<Response> {
  const path = `/v1/issuers/${ISSUER}/relying-parties/${clientId}`
  return curfew.call('PUT', path, { curfew: { channels: { admin: own } } })
}

async function logout({ clientId }: Pick<Registered, 'clientId'>, event: Partial<LogoutEventInput>) {
  const { id } = await curfew.client.postLogoutEvent({ iss: ISS, clients: [clientId], ...event })
  return curfew.client.getLogoutEvent(id, { wait: 20 })
}

/** The attempts of the only delivery to an API, once there is one. */
function attemptsOf({ clientId }: Pick<Registered, 'clientId'>) {
  return eventually(async () => {
    const { items } = await curfew.client.listDeliveries({ client_id: clientId })
    const { attempts } = await curfew.client.getDelivery(items[0]?.id ?? '')
    expect(attempts).not.toEqual([])
    return attempts
  })
}

describe('a logout', () => {
  test('of a session, and of the subject, calls the declared requests with one access token', async () => {
    await using api = await register()
    expect((await logout(api, { sub: 'alice', sid: 's1' })).deliveries).toMatchObject([
      { channel: 'admin', state: 'acknowledged', level: 'done' },
    ])
    expect((await logout(api, { sub: 'alice' })).deliveries).toMatchObject([{ state: 'acknowledged' }])
    expect(api.received.map(({ line }) => line)).toEqual([
      'POST /token',
      'DELETE /sessions/s1',
      'POST /users/alice/logout',
    ])
  })

  test('gets a new access token when the API refuses the one in memory', async () => {
    await using api = await register()
    await logout(api, { sub: 'alice', sid: 's1' })
    api.revokeTokens()
    expect((await logout(api, { sub: 'alice' })).deliveries).toMatchObject([{ state: 'acknowledged' }])
    expect(api.received.map(({ status }) => status)).toEqual([200, 204, 401, 200, 204])
  })

  test('of a user whose name has slashes and dots calls the API for that name only', async () => {
    await using api = await register()
    await logout(api, { sub: 'auth0|a/b?c#d e' })
    expect(api.calls()).toEqual(['POST /users/auth0%7Ca%2Fb%3Fc%23d%20e/logout'])
    for (const sub of ['..', '../clients/shop'])
      expect((await logout(api, { sub })).deliveries).toMatchObject([
        { state: 'dead_lettered', dead_letter_reason: 'sub_required' },
      ])
    expect(api.calls()).toHaveLength(1)
  })

  test('of one session is sent as one of the subject only if the registration widens it', async () => {
    const subjectOnly = { session: undefined }
    await using narrow = await register(() => subjectOnly)
    await using wide = await register(() => ({ ...subjectOnly, widen: true }))
    expect((await logout(narrow, { sub: 'alice', sid: 's1' })).deliveries).toEqual([])
    await logout(wide, { sub: 'alice', sid: 's1' })
    expect([narrow.calls(), wide.calls()]).toEqual([[], ['POST /users/alice/logout']])
  })

  test('that is posted again calls the API once', async () => {
    await using api = await register()
    const { id } = await curfew.client.postLogoutEvent({ iss: ISS, sub: 'alice', clients: [api.clientId] })
    await curfew.client.postLogoutEvent({ id, iss: ISS, sub: 'alice', clients: [api.clientId] })
    await curfew.client.getLogoutEvent(id, { wait: 20 })
    expect(api.calls()).toHaveLength(1)
  })
})

describe('the sessions of the identity provider itself', () => {
  test('end by each logout of the issuer, also if a complete index knows no session of the client', async () => {
    await using idp = await register(() => ({ holds: 'issuer' }))
    await using app = await register()
    await curfew.client.putIssuer(ISSUER, { iss: ISS, session_index: 'complete' })
    const began = { started_at: new Date(Date.now() - 60_000).toISOString() }
    const expires_at = new Date(Date.now() + 3_600_000).toISOString()
    for (const sid of ['nora-1', 'nora-2'])
      await curfew.client.postSession({
        ...{ iss: ISS, sub: 'nora', sid, client_id: 'shop', expires_at },
        ...began,
      } as SessionInput)
    await eventually(async () => {
      expect((await curfew.client.listSessions({ iss: ISS, sub: 'nora' })).items).toHaveLength(2)
    })
    const both = { clients: [idp.clientId, app.clientId] }
    await logout(idp, { sub: 'nora', sid: 'nora-1', ...both })
    await logout(idp, { sub: 'nora', ...both })
    expect(idp.calls()).toEqual(['DELETE /sessions/nora-1', 'POST /users/nora/logout'])
    expect(app.calls()).toEqual([])
    await curfew.client.putIssuer(ISSUER, { iss: ISS })
  })
})

describe('the outcome of an answer', () => {
  test.each<[string, AdminAnswer, object]>([
    ['an unknown user', { status: 404 }, { status: 404, note: 'unknown_user', outcome: 'acknowledged' }],
    [
      'a redirect',
      { status: 302, headers: { location: 'http://127.0.0.1:1/login' } },
      { status: 302, outcome: 'misconfigured' },
    ],
    [
      'a missing right',
      { status: 403, body: '{"error":"forbidden"}' },
      { status: 403, outcome: 'misconfigured', error: 'forbidden' },
    ],
    [
      'a bad request',
      { status: 400, body: '{"error":"bad"}' },
      { status: 400, outcome: 'refused', error: 'bad' },
    ],
    ['another success', { status: 200 }, { status: 200, outcome: 'misconfigured' }],
    [
      'too many requests',
      { status: 429, headers: { 'retry-after': '3000' } },
      { status: 429, outcome: 'unavailable' },
    ],
    [
      'a failure',
      { status: 503, headers: { 'retry-after': '3000' } },
      { status: 503, outcome: 'unavailable' },
    ],
  ])('%s', async (_, answer, attempt) => {
    await using api = await register()
    api.behave(answer)
    await curfew.client.postLogoutEvent({ iss: ISS, sub: 'alice', clients: [api.clientId] })
    expect(await attemptsOf(api)).toMatchObject([attempt])
    expect(api.calls()).toHaveLength(1)
  })

  test.each<[string, AdminAnswer, object]>([
    [
      'refuses',
      { status: 400, body: '{"error":"invalid_client"}' },
      { status: 400, outcome: 'misconfigured', error: 'invalid_client' },
    ],
    [
      'is unavailable',
      { status: 503, headers: { 'retry-after': '3000' } },
      { status: 503, outcome: 'unavailable' },
    ],
  ])('of a token endpoint that %s says so, and the API is not called', async (_, answer, attempt) => {
    await using api = await register()
    api.behaveToken(answer)
    await curfew.client.postLogoutEvent({ iss: ISS, sub: 'alice', clients: [api.clientId] })
    const [first] = await attemptsOf(api)
    expect(first).toMatchObject({
      ...attempt,
      error_description: expect.stringMatching(/^The token endpoint/),
    })
    expect(api.calls()).toEqual([])
  })

  test('a dead letter says what to change', async () => {
    await using api = await register()
    api.behave({ status: 403 })
    const { id } = await curfew.client.postLogoutEvent({ iss: ISS, sub: 'alice', clients: [api.clientId] })
    // The three further attempts would take ten minutes.
    await eventually(async () => {
      const { rowCount } = await curfew.db.query(
        "update deliveries set refusals = 3, due_at = now() where state = 'pending' and attempts > 0 and event_id in (select id from events where given_id = $1)",
        [id],
      )
      expect(rowCount).toBe(1)
    })
    await curfew.client.getLogoutEvent(id, { wait: 20 })
    const { items } = await curfew.client.listDeadLetters({ client_id: api.clientId })
    expect(items).toMatchObject([
      { channel: 'admin', reason: 'misconfigured', fix: expect.stringMatching(/right to end sessions/) },
    ])
  })
})

describe('the secret', () => {
  test('is stored sealed, never returned, and masked where an answer repeats it', async () => {
    await using api = await register(() => ({ auth: {} }))
    api.behave({ status: 403, body: `{"error_description":"no ${SECRET}"}` })
    await logout(api, { sub: 'alice' }).catch(() => undefined)
    expect(await attemptsOf(api)).toMatchObject([{ error_description: 'no [credential]' }])
    const party = await curfew.client.getRelyingParty(ISSUER, api.clientId)
    expect(JSON.stringify(party)).not.toContain(SECRET)
    const { rows } = await curfew.db.query<{ text: string }>(
      'select concat(b.*::text, p.*::text) as text from bindings b join relying_parties p on p.id = b.relying_party_id',
    )
    expect(rows.map(({ text }) => text).join()).not.toContain(SECRET)
  })

  test('is in no log, and neither are access tokens and names of users', async () => {
    await using api = await register()
    const before = curfew.lines.length
    await logout(api, { sub: 'alice', sid: 's1', email: 'alice@example.com' })
    api.behave({ status: 403, body: `{"error_description":"token-${SECRET}-1 has no right over alice"}` })
    await curfew.client.postLogoutEvent({ iss: ISS, sub: 'alice', clients: [api.clientId] })
    api.behaveToken({ status: 401, body: `{"error_description":"${SECRET} is wrong"}` })
    api.revokeTokens()
    await logout(api, { sub: 'alice', sid: 's1' }).catch(() => undefined)
    const logged = curfew.lines.slice(before).join('')
    expect(logged).toContain(api.clientId)
    expect(logged).not.toMatch(new RegExp(`${SECRET}|alice|Basic|Bearer`))
  })

  test('is kept by a registration without it, unless it would go to another API or token endpoint', async () => {
    await using api = await register()
    const { secret: _, ...rest } = api.own as Readonly<Record<string, unknown>>
    expect((await put(api.clientId, rest)).status).toBe(200)
    expect((await logout(api, { sub: 'alice' })).deliveries).toMatchObject([{ state: 'acknowledged' }])
    const elsewhere = 'http://127.0.0.2:9'
    for (const moved of [
      { session: undefined, subject: [{ method: 'POST', uri: `${elsewhere}/{sub}`, success: [204] }] },
      { auth: { client_id: 'curfew', token_endpoint: `${elsewhere}/token` } },
    ]) {
      const response = await put(api.clientId, { ...rest, ...moved })
      const { errors } = (await response.json()) as {
        readonly errors?: readonly { readonly pointer: string }[]
      }
      expect([response.status, errors?.[0]?.pointer]).toEqual([400, '/curfew/channels/admin/secret'])
    }
  })
})

describe('a probe', () => {
  const resultsOf = async ({ clientId }: Pick<Registered, 'clientId'>, input: object = {}) => {
    const { report } = await curfew.client.probe(ISSUER, clientId, input)
    return (report?.checks ?? []).map(({ id, result }) => `${id} ${result}`)
  }

  test('passes at an API that takes the requests, and names no real user', async () => {
    await using api = await register()
    expect(await resultsOf(api)).toEqual([
      'token passed',
      'session_1 passed',
      'subject_1 passed',
      'no_credential passed',
    ])
    expect(JSON.stringify(api.received)).not.toMatch(/alice|s1\b/)
  })

  test.each<[string, (api: AdminApi) => void, readonly string[]]>([
    [
      'has no endpoint',
      (api) => api.behave({ status: 405 }),
      ['token passed', 'session_1 failed', 'subject_1 failed', 'no_credential passed'],
    ],
    [
      'gives no right',
      (api) => api.behave({ status: 403 }),
      ['token passed', 'session_1 failed', 'subject_1 failed', 'no_credential passed'],
    ],
    [
      'gives no token',
      (api) => api.behaveToken({ status: 401 }),
      ['token failed', 'session_1 unknown', 'subject_1 unknown', 'no_credential unknown'],
    ],
  ])('finds that an API %s', async (_, break_, results) => {
    await using api = await register()
    break_(api)
    expect(await resultsOf(api)).toEqual(results)
  })

  test('sends nothing to an address that is not registered', async () => {
    await using api = await register()
    await using other = await openAdminApi({ secret: SECRET })
    expect(await resultsOf(api, { uri: other.url, channel: 'admin' })).toEqual(['registered unknown'])
    expect([...api.received, ...other.received]).toEqual([])
  })
})

describe('a registration', () => {
  const subject = [{ method: 'POST', uri: 'https://idp.example/users/{sub}', success: [204] }]
  test.each<[object, string]>([
    [{}, 'subject'],
    [{ subject: [] }, 'subject'],
    [{ subject: [...subject, ...subject, ...subject, ...subject] }, 'subject'],
    [{ subject: [{ ...subject[0], method: 'GET' }] }, 'subject/0/method'],
    [{ subject: [{ ...subject[0], success: [500] }] }, 'subject/0/success/0'],
    [{ subject: [{ ...subject[0], uri: 'http://10.0.0.1/{sub}' }] }, 'subject/0/uri'],
    [{ subject: [{ ...subject[0], uri: 'https://idp.example/{user}' }] }, 'subject/0/uri'],
    [{ subject, auth: {} }, 'secret'],
    [{ subject, secret: 'hush' }, 'secret'],
    [
      { subject, auth: { client_id: 'c', token_endpoint: 'http://10.0.0.1/' }, secret: 'hush' },
      'auth/token_endpoint',
    ],
    [{ subject, level: 'begun', sla: { counts: 'done' } }, 'sla/counts'],
    [{ preset: 'ldap' }, 'preset'],
    [
      {
        preset: 'keycloak',
        base: 'https://idp.example',
        realm: '../x',
        auth: { client_id: 'c' },
        secret: 'hush',
      },
      'realm',
    ],
  ])('%j is refused', async (own, member) => {
    const response = await put('wrong', own)
    const { errors = [] } = (await response.json()) as {
      readonly errors?: readonly { readonly pointer: string }[]
    }
    expect([response.status, ...errors.map(({ pointer }) => pointer)]).toEqual([
      400,
      `/curfew/channels/admin/${member}`,
    ])
  })

  test('needs the scope to change clients', async () => {
    const { key } = await curfew.client.createApiKey({ name: 'reader', scopes: ['clients:read'] })
    const response = await fetch(`${curfew.url}/v1/issuers/${ISSUER}/relying-parties/wrong`, {
      method: 'PUT',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      body: JSON.stringify({ curfew: { channels: { admin: { subject } } } }),
    })
    expect(response.status).toBe(403)
  })

  test('counts an acknowledgement of its own level by default', async () => {
    const party = await curfew.client.putRelyingParty(ISSUER, 'begun', {
      curfew: { channels: { admin: { subject } } },
    } as never)
    expect(party.status.endpoints).toMatchObject([
      { channel: 'admin', uri: 'https://idp.example', names: 'subject', counts: 'begun' },
    ])
    await curfew.client.deleteRelyingParty(ISSUER, 'begun')
  })
})
