import type { Answer, Binding, SessionToken } from '@curfew/domain'
import { describe, expect, test } from 'vitest'
import type { Job, ProbeTools, Tools } from '../channel.ts'
import { revocation } from './channel.ts'
import type { RevocationSettings } from './settings.ts'

// Goal: the requests that revoke the tokens of a session, and the outcome of each answer (RFC 7009).
// Method: calls the channel with tools that record their calls.

const NOW = new Date('2026-11-21T12:00:00.999Z')
const URI = 'https://as.example/revoke'
const BASIC: RevocationSettings = {
  method: 'client_secret_basic',
  client_id: null,
  algorithm: null,
  audience: null,
}
const REFRESH: SessionToken = { token: 'rt:1', hint: 'refresh_token' }
const ACCESS: SessionToken = { token: 'at 2', hint: 'access_token' }
const OTHER: SessionToken = { token: 'x3', hint: null }

type Reply = Answer | number | string
const answerOf = (reply: Reply): Answer =>
  typeof reply === 'number'
    ? { kind: 'response', status: reply, retryAfter: null, body: '' }
    : typeof reply === 'string'
      ? { kind: 'response', status: 400, retryAfter: null, body: JSON.stringify({ error: reply }) }
      : reply

async function send(
  tokens: readonly SessionToken[],
  reply: (form: URLSearchParams, headers: Readonly<Record<string, string>>) => Reply = () => 200,
  { settings = {}, attempts = 0 }: { settings?: Partial<RevocationSettings>; attempts?: number } = {},
) {
  const posted: { uri: string; form: string; headers: Readonly<Record<string, string>> }[] = []
  const asserted: { algorithm: string | null; claims: object }[] = []
  const tools = {
    now: () => NOW,
    newId: () => 'j1',
    secret: async () => 'hush:1',
    async assertion(algorithm: string | null, claims: object) {
      asserted.push({ algorithm, claims })
      return 'a.b.c'
    },
    sessionTokens: async () => tokens,
    http: {
      async post({ uri, body, headers }: { uri: string; body: string; headers: Record<string, string> }) {
        posted.push({ uri, form: body, headers })
        return answerOf(reply(new URLSearchParams(body), headers))
      },
    },
  } as unknown as Tools
  const job = {
    delivery: { sid: 's1', attempts, event: {} },
    binding: { uri: URI, iss: 'https://idp.example/', clientId: 'shop' } as unknown as Binding,
    settings: { ...BASIC, ...settings },
    ...{ startedAt: NOW, firstMessage: null },
  } as unknown as Job<RevocationSettings>
  return { ...(await revocation.send(job, tools)), posted, asserted, forms: posted.map(({ form }) => form) }
}

describe('REV-01: the request', () => {
  test('has the token and its kind in a form, and the credential of the client', async () => {
    const { posted, outcome, jti } = await send([REFRESH])
    expect(posted).toEqual([
      {
        uri: URI,
        form: 'token=rt%3A1&token_type_hint=refresh_token',
        headers: {
          // RFC 6749 2.3.1: the secret is form-encoded before Base64.
          authorization: `Basic ${Buffer.from('shop:hush%3A1').toString('base64')}`,
          'content-type': 'application/x-www-form-urlencoded',
          accept: 'application/json',
          'user-agent': 'curfew',
        },
      },
    ])
    expect([outcome, jti]).toEqual([{ kind: 'acknowledged', level: 'done', status: 200 }, 'j1'])
  })

  test('is sent for every token of the session, refresh tokens first', async () => {
    const { forms } = await send([ACCESS, OTHER, REFRESH])
    expect(forms).toEqual([
      ...['token=rt%3A1&token_type_hint=refresh_token', 'token=x3'],
      'token=at+2&token_type_hint=access_token',
    ])
  })

  test.each<[Partial<RevocationSettings>, string]>([
    [{ method: 'client_secret_post' }, '&client_id=shop&client_secret=hush%3A1'],
    [{ method: 'client_secret_post', client_id: 'curfew' }, '&client_id=curfew&client_secret=hush%3A1'],
    [{ method: 'none' }, '&client_id=shop'],
    [{ method: 'tls_client_auth' }, '&client_id=shop'],
    [{ method: 'self_signed_tls_client_auth' }, '&client_id=shop'],
    [
      { method: 'private_key_jwt', algorithm: 'ES256' },
      '&client_id=shop&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&client_assertion=a.b.c',
    ],
  ])('with %j authenticates in the form', async (settings, end) => {
    const { posted } = await send([OTHER], undefined, { settings })
    expect(posted[0]?.form).toBe(`token=x3${end}`)
    expect(posted[0]?.headers).not.toHaveProperty('authorization')
  })

  test('has an assertion of its own for each token, for the issuer or the registered audience', async () => {
    const settings = { method: 'client_secret_jwt', algorithm: 'HS256' } as const
    const { asserted } = await send([REFRESH, ACCESS], undefined, { settings })
    const iat = 1_795_262_400
    expect(asserted).toHaveLength(2)
    expect(asserted[0]).toEqual({
      algorithm: 'HS256',
      claims: {
        ...{ iss: 'shop', sub: 'shop', aud: 'https://idp.example/', jti: 'j1' },
        ...{ iat, exp: iat + 120 },
      },
    })
    const other = await send([REFRESH], undefined, {
      settings: { ...settings, audience: 'https://as.example' },
    })
    expect(other.asserted[0]?.claims).toMatchObject({ aud: 'https://as.example' })
  })

  test('is not sent if the session index has no tokens', async () => {
    const { outcome, posted, jti } = await send([])
    expect(outcome).toMatchObject({ kind: 'undeliverable', reason: 'token_required' })
    expect([posted, jti]).toEqual([[], null])
  })
})

describe('REV-02: the outcome of an answer', () => {
  test.each<[Reply, object]>([
    [503, { kind: 'unavailable', status: 503 }],
    [
      { kind: 'response', status: 503, retryAfter: '120', body: '' },
      { kind: 'unavailable', retryAfterMs: 120_000 },
    ],
    [429, { kind: 'unavailable', status: 429 }],
    [401, { kind: 'misconfigured', status: 401 }],
    ['invalid_client', { kind: 'misconfigured', status: 400, error: 'invalid_client' }],
    ['invalid_request', { kind: 'misconfigured', status: 400, error: 'invalid_request' }],
    [204, { kind: 'misconfigured', status: 204 }],
    [302, { kind: 'misconfigured', status: 302 }],
    [404, { kind: 'misconfigured', status: 404 }],
    [410, { kind: 'misconfigured', status: 410 }],
    [
      { kind: 'failure', failure: 'timeout', detail: 'none came' },
      { kind: 'unavailable', failure: 'timeout' },
    ],
  ])('%j: %j', async (reply, outcome) => {
    expect((await send([REFRESH], () => reply)).outcome).toMatchObject(outcome)
  })

  test('is not done before every token is revoked', async () => {
    const { outcome, forms } = await send([REFRESH, ACCESS, OTHER], (form) =>
      form.get('token') === 'x3' ? 503 : 200,
    )
    expect(outcome).toMatchObject({ kind: 'unavailable' })
    expect(forms).toHaveLength(2)
  })

  test('an unsupported kind of token is reported once, then left out if a refresh token was revoked', async () => {
    const jwtOnly = (form: URLSearchParams) =>
      form.get('token_type_hint') === 'access_token' ? 'unsupported_token_type' : 200
    const both = [REFRESH, ACCESS]
    expect((await send(both, jwtOnly)).outcome).toMatchObject({
      ...{ kind: 'misconfigured', status: 400, error: 'unsupported_token_type' },
    })
    expect((await send(both, jwtOnly, { attempts: 1 })).outcome).toEqual({
      ...{ kind: 'acknowledged', level: 'done', status: 200, note: 'unsupported_token_type' },
    })
    const onlyAccess = await send([ACCESS], jwtOnly, { attempts: 1 })
    expect(onlyAccess.outcome).toMatchObject({ kind: 'misconfigured' })
  })

  test('REV-03: has no token and no credential, even if the server repeats them', async () => {
    const echo = (form: URLSearchParams, headers: Readonly<Record<string, string>>): Answer => ({
      ...{ kind: 'response', status: 401, retryAfter: null },
      body: JSON.stringify({
        error: 'invalid_client',
        error_description: `${form} ${headers.authorization}`,
      }),
    })
    for (const method of ['client_secret_basic', 'client_secret_post', 'private_key_jwt'] as const) {
      const { outcome } = await send([REFRESH], echo, { settings: { method } })
      expect(JSON.stringify(outcome)).toContain('[credential]')
      expect(JSON.stringify(outcome)).not.toMatch(/rt(:|%3A)1|hush|c2hvc|a\.b\.c/)
    }
  })
})

describe('a probe', () => {
  const probe = async (
    reply: (form: URLSearchParams, authorized: boolean) => Reply,
    method = BASIC.method,
  ) => {
    const forms: string[] = []
    const tools = {
      newId: () => 'id',
      secret: async () => 'hush',
      assertion: async () => 'a.b.c',
      onProgress: () => undefined,
      http: {
        async post({ body, headers }: { body: string; headers: Readonly<Record<string, string>> }) {
          forms.push(body)
          return answerOf(reply(new URLSearchParams(body), headers.authorization !== undefined))
        },
      },
    } as unknown as ProbeTools
    const target = { uri: URI, iss: 'https://idp.example', clientId: 'shop', timeoutMs: 1_000 }
    const { checks, sent } = await revocation.probe.run({ ...target, settings: { ...BASIC, method } }, tools)
    expect(sent).toBe(forms.length)
    for (const { what, fix } of checks)
      for (const text of [what, fix ?? 'No fix.']) expect(text).toMatch(/^[A-Z].*\.$/)
    return { forms, results: checks.map(({ id, result }) => `${id} ${result}`) }
  }

  test('of a good server passes, and names a token that does not exist', async () => {
    const { forms, results } = await probe((_, authorized) => (authorized ? 200 : 401))
    expect(results).toEqual(['unknown_token passed', 'no_credential passed'])
    expect(forms[0]).toBe('token=curfew-probe-id&token_type_hint=refresh_token')
  })

  test.each<[string, (form: URLSearchParams, authorized: boolean) => Reply, readonly string[]]>([
    ['refuses the client', () => 'invalid_client', ['unknown_token failed', 'no_credential passed']],
    ['asks for no credential', () => 200, ['unknown_token passed', 'no_credential failed']],
    ['is busy', () => 503, ['unknown_token unknown', 'no_credential unknown']],
  ])('of a server that %s reports it', async (_, reply, expected) => {
    expect((await probe(reply)).results).toEqual(expected)
  })

  test('of a public client sends no request without a credential', async () => {
    expect((await probe(() => 200, 'none')).results).toEqual(['unknown_token passed'])
  })
})
