import { type Answer, type Binding, readClient } from '@curfew/domain'
import { describe, expect, test } from 'vitest'
import type { Job, RegisterContext, Tools } from '../channel.ts'
import { createAdmin } from './channel.ts'
import type { AdminSettings } from './settings.ts'
import { createTokens } from './token.ts'

// Goal: the requests of a logout, the outcome of each answer, and the life of an access token.
// Method: calls the channel with tools that record their calls. The answers of products are those of their documentation.

const KEYCLOAK = {
  preset: 'keycloak',
  base: 'https://idp.example',
  realm: 'r',
  auth: { client_id: 'curfew' },
}
const SESSION = { method: 'DELETE', uri: 'https://idp.example/sessions/{sid}', success: [204, 404] }
const SUBJECT = { method: 'POST', uri: 'https://idp.example/users/{sub}/logout', success: [204, 404] }
const KEYED = { session: [SESSION], subject: [SUBJECT], auth: {} }

type Reply =
  | Answer
  | number
  | { readonly status: number; readonly body?: string; readonly retryAfter?: string }
const answerOf = (reply: Reply): Answer => {
  if (typeof reply === 'number') return { kind: 'response', status: reply, retryAfter: null, body: '' }
  return 'kind' in reply ? reply : { kind: 'response', retryAfter: null, body: '', ...reply }
}
const token = (access_token: string, expires_in: number | undefined = 300): Reply => ({
  status: 200,
  body: JSON.stringify({ access_token, expires_in, token_type: 'Bearer' }),
})

/** One worker. `reply` answers each request; token endpoints have `/token` in their path. */
function open(own: object, reply: (request: Sent, count: number) => Reply | Promise<Reply>) {
  const registered = { channels: { admin: own as Record<string, unknown> } }
  const channel = createAdmin(createTokens())
  const { settings, faults } = channel.endpoints(readClient({}), {
    issuer: {
      name: 'main',
      iss: 'https://idp.example',
      sidSupported: true,
      sessionIndex: 'partial',
      maxTokenTtlS: 3_600,
    },
    ...{ registered, settings: registered, own, targetFault: () => null, hasEncryptionKey: () => true },
  } as RegisterContext<object>)
  expect(faults).toEqual([])
  const sent: Sent[] = []
  let now = new Date('2026-11-21T12:00:00Z')
  const tools = {
    now: () => now,
    newId: () => 'j1',
    secret: async () => 'hush:1',
    http: {
      async send(request: Sent) {
        sent.push(request)
        return answerOf(await reply(request, sent.length))
      },
    },
  } as unknown as Tools
  return {
    sent,
    pass: (ms: number) => {
      now = new Date(now.getTime() + ms)
    },
    /** @param named what the delivery names. */
    logout: (
      named: { sid?: string | null; sub?: string | null; email?: string } = {},
      binding: object = {},
    ) => {
      const { sid = 's1', sub = 'u1', email } = named
      const event = { iss: 'https://idp.example', sub, ...(email !== undefined && { email }) }
      return channel.send(
        {
          delivery: { sid, attempts: 0, event },
          binding: { id: 1, sealedSecret: 'sealed', ...binding } as unknown as Binding,
          ...{ settings, startedAt: now, firstMessage: null },
        } as unknown as Job<AdminSettings>,
        tools,
      )
    },
  }
}
type Sent = Parameters<Tools['http']['send']>[0]
const lineOf = ({ method, uri }: Sent) => `${method} ${uri.replace('https://idp.example', '')}`

describe('the requests', () => {
  test('of a session and of a subject are the declared ones, with the credential in its header', async () => {
    const api = open(KEYED, () => 204)
    await api.logout()
    await api.logout({ sid: null })
    expect(api.sent.map(lineOf)).toEqual(['DELETE /sessions/s1', 'POST /users/u1/logout'])
    expect(api.sent[0]).toMatchObject({
      body: null,
      headers: { authorization: 'Bearer hush:1', 'user-agent': 'curfew' },
    })
  })

  test('have another header and prefix, or no credential, if the registration says so', async () => {
    const keyed = open({ subject: [SUBJECT], auth: { header: 'X-Api-Key', prefix: '' } }, () => 204)
    await keyed.logout()
    expect(keyed.sent[0]?.headers).toMatchObject({ 'x-api-key': 'hush:1' })
    const bare = open({ subject: [SUBJECT] }, () => 204)
    await bare.logout()
    expect(JSON.stringify(bare.sent)).not.toContain('hush')
  })

  test('have a JSON body with the names of the logout', async () => {
    const body = { user: '{email}', all: true }
    const api = open({ subject: [{ ...SUBJECT, uri: 'https://idp.example/logout', body }] }, () => 204)
    await api.logout({ email: 'u1@example.com' })
    expect(api.sent[0]).toMatchObject({
      body: '{"user":"u1@example.com","all":true}',
      headers: { 'content-type': 'application/json' },
    })
  })

  test('are sent in order, and the first failure ends them', async () => {
    const second = { ...SUBJECT, uri: 'https://idp.example/users/{sub}/tokens' }
    const api = open({ subject: [SUBJECT, second] }, (_, count) => (count === 4 ? 503 : 204))
    expect((await api.logout()).outcome).toMatchObject({ kind: 'acknowledged' })
    expect((await api.logout()).outcome).toMatchObject({ kind: 'unavailable', status: 503 })
    expect(api.sent.map(lineOf)).toEqual([
      'POST /users/u1/logout',
      'POST /users/u1/tokens',
      'POST /users/u1/logout',
      'POST /users/u1/tokens',
    ])
    const refused = open({ subject: [SUBJECT, second] }, () => 400)
    await refused.logout()
    expect(refused.sent).toHaveLength(1)
  })

  test.each([
    [
      'a session without a sub where the request needs it',
      { subject: [SUBJECT], widen: true },
      { sub: null },
      'sub_required',
    ],
    ['a sub that leads to another path', { subject: [SUBJECT] }, { sid: null, sub: '..' }, 'sub_required'],
    [
      'an unknown email',
      { subject: [{ ...SUBJECT, uri: 'https://idp.example/{email}' }] },
      {},
      'email_required',
    ],
  ])('of %s are not sent', async (_, own, named, reason) => {
    const api = open(own, () => 204)
    expect(await api.logout(named)).toMatchObject({ outcome: { kind: 'undeliverable', reason }, jti: null })
    expect(api.sent).toEqual([])
  })
})

describe('the outcome of an answer', () => {
  test.each<[Reply, object]>([
    [204, { kind: 'acknowledged', level: 'begun', status: 204 }],
    [404, { kind: 'acknowledged', level: 'begun', status: 404, note: 'unknown_session' }],
    [200, { kind: 'misconfigured', status: 200 }],
    [{ status: 302 }, { kind: 'misconfigured', status: 302 }],
    [
      { status: 400, body: '{"error":"invalid_request"}' },
      { kind: 'refused', status: 400, error: 'invalid_request' },
    ],
    [401, { kind: 'misconfigured', status: 401 }],
    [403, { kind: 'misconfigured', status: 403 }],
    [405, { kind: 'misconfigured', status: 405 }],
    [410, { kind: 'misconfigured', status: 410 }],
    [501, { kind: 'refused', status: 501 }],
    [
      { status: 429, retryAfter: '7' },
      { kind: 'unavailable', status: 429, retryAfterMs: 7_000 },
    ],
    [503, { kind: 'unavailable', status: 503, retryAfterMs: null }],
    [
      { kind: 'failure', failure: 'timeout', detail: 'none came' },
      { kind: 'unavailable', failure: 'timeout' },
    ],
    [
      { kind: 'not_allowed', detail: '10.0.0.1' },
      { kind: 'undeliverable', reason: 'address_not_allowed' },
    ],
  ])('%j is %j', async (reply, outcome) => {
    const { outcome: seen } = await open(KEYED, () => reply).logout()
    expect(seen).toMatchObject(outcome)
    if (seen.kind === 'acknowledged') expect(seen).toEqual(outcome)
  })

  test('says that the user is unknown only if every request says so', async () => {
    const two = { subject: [SUBJECT, SUBJECT], level: 'done' }
    expect((await open(two, () => 404).logout()).outcome).toMatchObject({
      level: 'done',
      note: 'unknown_user',
    })
    expect((await open(two, (_, count) => (count === 1 ? 404 : 204)).logout()).outcome).not.toHaveProperty(
      'note',
    )
  })

  test('masks a credential that the answer repeats', async () => {
    const { outcome } = await open(KEYED, () => ({ status: 403, body: 'no right for hush:1' })).logout()
    expect(outcome).toMatchObject({ errorDescription: 'no right for [credential]' })
  })
})

describe('an access token', () => {
  const isToken = ({ uri }: Sent) => uri.endsWith('/token')

  test('is requested with the secret of the client, and sent as the credential', async () => {
    const api = open(KEYCLOAK, (request) => (isToken(request) ? token('t1') : 204))
    expect((await api.logout()).outcome).toMatchObject({ kind: 'acknowledged', level: 'done' })
    expect(api.sent).toMatchObject([
      {
        ...{ method: 'POST', uri: 'https://idp.example/realms/r/protocol/openid-connect/token' },
        body: 'grant_type=client_credentials',
        headers: { authorization: `Basic ${btoa('curfew:hush%3A1')}` },
      },
      { method: 'DELETE', headers: { authorization: 'Bearer t1' } },
    ])
  })

  test('is requested by form parameters, scope and audience where the registration says so', async () => {
    const auth = {
      client_id: 'c',
      method: 'client_secret_post',
      scope: 'a b',
      audience: 'https://api.example/',
    }
    const api = open({ ...KEYCLOAK, auth }, (request) => (isToken(request) ? token('t1') : 204))
    await api.logout()
    expect([...new URLSearchParams(api.sent[0]?.body ?? '')]).toEqual([
      ['grant_type', 'client_credentials'],
      ['client_id', 'c'],
      ['client_secret', 'hush:1'],
      ['scope', 'a b'],
      ['audience', 'https://api.example/'],
    ])
    expect(api.sent[0]?.headers).not.toHaveProperty('authorization')
  })

  test('is kept until shortly before its end', async () => {
    const api = open(KEYCLOAK, (request) => (isToken(request) ? token('t1', 300) : 204))
    await api.logout()
    api.pass(269_000)
    await api.logout()
    expect(api.sent.filter(isToken)).toHaveLength(1)
    api.pass(2_000)
    await api.logout()
    expect(api.sent.filter(isToken)).toHaveLength(2)
  })

  test('is fetched once for attempts that start together, and for each binding and secret', async () => {
    const fetched = Promise.withResolvers<Reply>()
    const api = open(KEYCLOAK, (request) => (isToken(request) ? fetched.promise : 204))
    const attempts = [api.logout(), api.logout(), api.logout()]
    fetched.resolve(token('t1'))
    await Promise.all(attempts)
    expect(api.sent.filter(isToken)).toHaveLength(1)
    await api.logout({}, { sealedSecret: 'a new secret' })
    await api.logout({}, { id: 2 })
    expect(api.sent.filter(isToken)).toHaveLength(3)
  })

  test('that the API refuses is fetched again, once', async () => {
    let valid = 't1'
    let issued = 0
    const api = open(KEYCLOAK, (request) => {
      if (isToken(request)) return token(`t${++issued}`)
      return request.headers.authorization === `Bearer ${valid}` ? 204 : 401
    })
    await api.logout()
    valid = 't2'
    const together = await Promise.all([api.logout(), api.logout()])
    expect(together.map(({ outcome }) => outcome.kind)).toEqual(['acknowledged', 'acknowledged'])
    expect(issued).toBe(2)
    valid = 'none'
    expect((await api.logout()).outcome).toMatchObject({ kind: 'misconfigured', status: 401 })
    expect(issued).toBe(3)
  })

  test.each<[Reply, object]>([
    [503, { kind: 'unavailable', status: 503, errorDescription: 'The token endpoint is not available' }],
    [
      { kind: 'failure', failure: 'dns', detail: 'no such host' },
      {
        kind: 'unavailable',
        failure: 'dns',
        errorDescription: 'The token endpoint gave no answer: no such host',
      },
    ],
    [
      { status: 401, body: '{"error":"invalid_client","error_description":"not hush:1"}' },
      {
        ...{ kind: 'misconfigured', status: 401, error: 'invalid_client' },
        errorDescription: 'The token endpoint refused the client: not [credential]',
      },
    ],
    [
      { status: 200, body: '{"access_token":"two words"}' },
      { kind: 'misconfigured', status: 200, error: null },
    ],
    [
      { status: 200, body: 'null' },
      { kind: 'misconfigured', status: 200 },
    ],
    [
      { status: 200, body: '{"access_token":"t1\\r\\nx: y"}' },
      { kind: 'misconfigured', status: 200 },
    ],
  ])('that is not given (%j) is %j, and is requested again', async (reply, outcome) => {
    const api = open(KEYCLOAK, (request, count) =>
      !isToken(request) ? 204 : count === 1 ? reply : token('t1'),
    )
    expect(await api.logout()).toMatchObject({ outcome, jti: null })
    expect((await api.logout()).outcome).toMatchObject({ kind: 'acknowledged' })
  })

  test.each([undefined, -1, 'soon'])('with the lifetime %j is kept for a short time', async (expires_in) => {
    const reply = { status: 200, body: JSON.stringify({ access_token: 't1', expires_in }) }
    const api = open(KEYCLOAK, (request) => (isToken(request) ? reply : 204))
    await api.logout()
    await api.logout()
    expect(api.sent.filter(isToken)).toHaveLength(1)
    api.pass(60_000)
    await api.logout()
    expect(api.sent.filter(isToken)).toHaveLength(2)
  })
})

describe('a product, by the answers in its documentation', () => {
  const okta = { preset: 'okta', base: 'https://idp.example' }
  const auth0 = { preset: 'auth0', base: 'https://idp.example', auth: { client_id: 'c' } }
  const graph = {
    ...{ preset: 'graph', base: 'https://idp.example' },
    auth: { client_id: 'c', token_endpoint: 'https://login.example/t/oauth2/v2.0/token' },
  }
  const unknown = '{"errorCode":"E0000007","errorSummary":"Not found: Resource not found: u1 (User)"}'
  test.each<[string, object, Reply, readonly string[], object]>([
    [
      'Okta',
      okta,
      204,
      ['DELETE /api/v1/users/u1/sessions?oauthTokens=true&forgetDevices=false'],
      { level: 'done', status: 204 },
    ],
    [
      'Okta',
      okta,
      { status: 404, body: unknown },
      ['DELETE /api/v1/users/u1/sessions?oauthTokens=true&forgetDevices=false'],
      { level: 'done', note: 'unknown_user' },
    ],
    [
      'Auth0',
      auth0,
      202,
      ['POST /oauth/token', 'DELETE /api/v2/users/u1/sessions', 'DELETE /api/v2/users/u1/refresh-tokens'],
      { level: 'begun', status: 202 },
    ],
    [
      'Graph',
      graph,
      {
        status: 200,
        body: '{"@odata.context":"https://graph.microsoft.com/v1.0/$metadata#Edm.Boolean","value":true}',
      },
      ['POST https://login.example/t/oauth2/v2.0/token', 'POST /v1.0/users/u1/revokeSignInSessions'],
      { level: 'begun', status: 200 },
    ],
  ])('%s', async (_, own, reply, lines, outcome) => {
    const api = open(own, (request) =>
      request.uri.includes('/token') && request.body !== null ? token('t1') : reply,
    )
    const { outcome: seen } = await api.logout({ sid: null })
    expect(seen).toMatchObject({ kind: 'acknowledged', ...outcome })
    expect(api.sent.map(lineOf)).toEqual(lines)
  })

  test('Okta takes an API token, Auth0 the audience of its API, and Graph its default scope', async () => {
    const [first] = [open(okta, () => 204)]
    await first?.logout({ sid: null })
    expect(first?.sent[0]?.headers.authorization).toBe('SSWS hush:1')
    for (const [own, member] of [
      [auth0, ['audience', 'https://idp.example/api/v2/']],
      [graph, ['scope', 'https://idp.example/.default']],
    ] as const) {
      const api = open(own, () => token('t1'))
      await api.logout({ sid: null })
      expect([...new URLSearchParams(api.sent[0]?.body ?? '')]).toContainEqual(member)
    }
  })
})
