import { type Answer, type Binding, readClient } from '@curfew/domain'
import { describe, expect, test } from 'vitest'
import type { Job, RegisterContext, Tools } from '../channel.ts'
import { withoutCredential } from '../credential.ts'
import { globalRevocation } from './channel.ts'
import type { GlobalRevocationSettings } from './settings.ts'

// Goal: the request that revokes a user's tokens, and the outcome of each answer (Global Token Revocation section 3, Okta
// Universal Logout).
// Method: calls the channel with tools that record their calls.

const NOW = new Date('2026-11-21T12:00:00.999Z')
const EVENT = { iss: 'https://idp.example/', sub: 'u1', email: 'u1@example.com', scope: 'subject' }

function read(own: object | null, client: object = {}, over: Partial<RegisterContext<object>> = {}) {
  const registered = own === null ? {} : { channels: { global_revocation: own as Record<string, unknown> } }
  return globalRevocation.endpoints(readClient(client as Readonly<Record<string, unknown>>), {
    ...{
      issuer: {
        name: 'main',
        iss: 'https://idp.example',
        sidSupported: true,
        sessionIndex: 'partial',
        maxTokenTtlS: 3_600,
      },
      registered,
      settings: registered,
      own: own ?? {},
    },
    ...{ targetFault: () => null, hasEncryptionKey: () => true },
    ...over,
  })
}

const URI = 'https://app.example/revoke?tenant=1'

async function send(
  answer: Answer | number,
  own: Partial<GlobalRevocationSettings> = {},
  { event = EVENT, attempts = 0 }: { event?: object; attempts?: number } = {},
) {
  const signed: { algorithm: string; typ: string | null; claims: object }[] = []
  const posted: { uri: string; body: string; headers: Readonly<Record<string, string>> }[] = []
  const { settings } = read({ uri: URI })
  const tools: Tools = {
    now: () => NOW,
    newId: () => 'j1',
    digest: (text) => `digest of ${text}`,
    async sign(algorithm, typ, claims) {
      signed.push({ algorithm, typ, claims })
      return 'a.b.c'
    },
    encrypt: async (_typ, token) => token,
    secret: async () => 'hush',
    assertion: async () => '',
    sessionTokens: async () => [],
    http: {
      async post(request) {
        posted.push(request)
        return typeof answer === 'number'
          ? { kind: 'response', status: answer, retryAfter: null, body: '' }
          : answer
      },
      send: undefined as never,
    },
  }
  const job = {
    delivery: { sid: null, attempts, event },
    binding: { uri: URI, iss: EVENT.iss, clientId: 'shop' } as unknown as Binding,
    settings: { ...settings, ...own },
    startedAt: NOW,
  } as unknown as Job<GlobalRevocationSettings>
  return { ...(await globalRevocation.send(job, tools)), signed, posted }
}

describe('the request', () => {
  test('GTR-01, GTR-03: has one member, and a credential for this endpoint alone that is valid for five minutes', async () => {
    const { posted, signed, jti, tokenDigest } = await send(204)
    expect(posted).toEqual([
      {
        uri: URI,
        body: '{"sub_id":{"format":"iss_sub","iss":"https://idp.example/","sub":"u1"}}',
        headers: {
          authorization: 'Bearer a.b.c',
          'content-type': 'application/json',
          accept: 'application/json',
          'user-agent': 'curfew',
        },
      },
    ])
    const iat = 1_795_262_400
    expect(signed).toEqual([
      {
        ...{ algorithm: 'RS256', typ: 'global-token-revocation+jwt' },
        claims: {
          ...{ iss: 'https://idp.example/', sub: 'shop', aud: 'https://app.example/revoke', jti: 'j1' },
          ...{ iat, nbf: iat - 300, exp: iat + 300 },
        },
      },
    ])
    expect([jti, tokenDigest]).toEqual(['j1', 'digest of a.b.c'])
  })

  test('with a bearer token the credential is the secret, and nothing is signed', async () => {
    const { posted, signed, tokenDigest } = await send(204, { credential: 'bearer' })
    expect(posted[0]?.headers.authorization).toBe('Bearer hush')
    expect([signed, tokenDigest]).toEqual([[], null])
  })

  test.each<[Partial<GlobalRevocationSettings>, object]>([
    [{ subject: 'email' }, { sub_id: { format: 'email', email: 'u1@example.com' } }],
    [{ subject: 'opaque' }, { sub_id: { format: 'opaque', id: 'u1' } }],
    [{ member: 'subject' }, { subject: { format: 'iss_sub', iss: 'https://idp.example/', sub: 'u1' } }],
  ])('%j: the body is %j', async (own, body) => {
    const { posted } = await send(204, own)
    expect(JSON.parse(posted[0]?.body ?? '')).toEqual(body)
  })

  test.each([
    ['email', { ...EVENT, email: undefined }, 'email_required'],
    ['iss_sub', { ...EVENT, sub: null }, 'sub_required'],
    ['opaque', { ...EVENT, sub: null }, 'sub_required'],
  ] as const)(
    'GTR-05: is not sent if the format is %s and the event lacks the name',
    async (subject, event, reason) => {
      const { outcome, posted, jti } = await send(204, { subject }, { event })
      expect(outcome).toMatchObject({ kind: 'undeliverable', reason })
      expect([posted, jti]).toEqual([[], null])
    },
  )
})

describe('the outcome of an answer', () => {
  const begun = (status: number) => ({ kind: 'acknowledged', level: 'begun', status })
  test.each<[answer: number, own: Partial<GlobalRevocationSettings>, attempts: number, outcome: object]>([
    [204, {}, 0, begun(204)],
    [200, {}, 0, { kind: 'misconfigured', status: 200 }],
    [200, { success: [200, 204] }, 0, begun(200)],
    [204, { success: [200] }, 0, { kind: 'misconfigured', status: 204 }],
    [404, {}, 0, { ...begun(404), note: 'unknown_user' }],
    [404, { unknown_user: 'misconfigured' }, 0, { kind: 'misconfigured', status: 404 }],
    [400, {}, 0, { kind: 'refused', status: 400 }],
    [422, {}, 0, { kind: 'refused', status: 422 }],
    [401, {}, 0, { kind: 'unavailable', status: 401 }],
    [401, {}, 1, { kind: 'misconfigured', status: 401 }],
    [403, {}, 0, { kind: 'misconfigured', status: 403 }],
    [302, {}, 0, { kind: 'misconfigured', status: 302 }],
    [410, {}, 0, { kind: 'misconfigured', status: 410 }],
    [501, {}, 0, { kind: 'misconfigured', status: 501 }],
    [408, {}, 0, { kind: 'unavailable', status: 408 }],
    [425, {}, 0, { kind: 'unavailable', status: 425 }],
    [429, {}, 0, { kind: 'unavailable', status: 429 }],
    [503, {}, 3, { kind: 'unavailable', status: 503 }],
  ])('GTR-02: %i with %j after %i attempts', async (answer, own, attempts, outcome) => {
    expect((await send(answer, own, { attempts })).outcome).toMatchObject(outcome)
  })

  test('GTR-02: a missing answer is unavailable, and is retried', async () => {
    const { outcome } = await send({ kind: 'failure', failure: 'timeout', detail: 'none came' })
    expect(outcome).toMatchObject({ kind: 'unavailable', failure: 'timeout' })
  })
})

test.each([
  ['plain', 'no: aB+/<"\\z'],
  ['as Node writes JSON', JSON.stringify({ error_description: 'no: aB+/<"\\z' })],
  ['as PHP writes JSON', '{"error":"no: aB+\\/<\\"\\\\z"}'],
  ['as Go writes JSON', '{"error":"no: aB+/\\u003c\\"\\\\z"}'],
  ['with every character escaped', '{"error":"\\u0061\\u0042\\u002B\\u002F\\u003C\\u0022\\u005C\\u007A"}'],
])('a credential that an answer repeats is masked: %s', (_, body) => {
  const answer = withoutCredential({ kind: 'response', status: 403, retryAfter: null, body }, 'aB+/<"\\z')
  expect(answer).toMatchObject({ status: 403, body: expect.stringContaining('[credential]') })
  expect(JSON.stringify(answer)).not.toMatch(/aB|z"|005C/)
})

describe('a registration', () => {
  test('has the endpoint in its own settings or in the metadata of the client', () => {
    const endpoint = { name: 'main', uri: URI, enabled: true }
    expect(read({ uri: URI }).endpoints).toEqual([
      { ...endpoint, pointer: '/curfew/channels/global_revocation/uri' },
    ])
    expect(read({}, { global_token_revocation_endpoint: URI }).endpoints).toEqual([
      { ...endpoint, pointer: '/global_token_revocation_endpoint' },
    ])
  })

  test('without settings of the channel has no endpoint, even if the metadata names one', () => {
    const { endpoints, faults } = read(null, { global_token_revocation_endpoint: URI })
    expect([endpoints, faults]).toEqual([[], []])
  })

  test.each<[string, object, object, string]>([
    ['without an endpoint', {}, {}, '/curfew/channels/global_revocation/uri'],
    [
      'with an unsupported algorithm',
      { uri: URI },
      { id_token_signed_response_alg: 'HS256' },
      '/id_token_signed_response_alg',
    ],
  ])('%s is refused', (_, own, client, pointer) => {
    expect(read(own, client).faults.map((fault) => fault.pointer)).toEqual([pointer])
  })

  test('GTR-06: signs with the algorithm of the ID tokens, or sends a bearer token as the secret and signs nothing', () => {
    const client = { id_token_signed_response_alg: 'ES256' }
    expect(read({ uri: URI }, client)).toMatchObject({ signs: { algorithm: 'ES256' }, sendsSecret: false })
    expect(read({ uri: URI, credential: 'bearer' }, client)).toMatchObject({ signs: null, sendsSecret: true })
  })

  test('GTR-04: names the subject, and is used for a logout of one session only if it may widen', () => {
    const { settings } = read({ uri: URI })
    expect(globalRevocation.names(settings)).toEqual({ names: 'subject', widens: false, always: false })
    expect(globalRevocation.names({ ...settings, widen: true })).toEqual({
      names: 'subject',
      widens: true,
      always: false,
    })
  })
})
