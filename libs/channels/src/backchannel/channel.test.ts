import type { Binding, ClientId, InFlightDelivery } from '@curfew/domain'
import { describe, expect, test } from 'vitest'
import type { Job, Tools } from '../channel.ts'
import { backchannel } from './channel.ts'
import type { BackchannelSettings } from './settings.ts'

// Goal: the first attempt forwards the token of the IdP byte for byte while it is valid. Every other attempt mints a new one.

const NOW = new Date('2026-11-21T05:00:00Z')
const NOW_S = NOW.getTime() / 1_000
const BINDING = { clientId: 'mail' as ClientId, uri: 'https://rp.example/logout' } as Binding
const SETTINGS: BackchannelSettings = {
  subject_claims: 'both',
  session_required: false,
  algorithm: 'RS256',
  encryption: null,
  token_type: 'logout+jwt',
  already_ended_errors: [],
}
const tokenWith = (claims: object) =>
  `${encode({ alg: 'RS256' })}.${encode({ jti: 'of the IdP', iat: NOW_S, ...claims })}.signature`
function encode(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url')
}

async function send(
  firstMessage: string | null,
  settings: Partial<BackchannelSettings> = {},
  answer = { status: 200, body: '' },
) {
  const posted: string[] = []
  const claims: object[] = []
  const types: (string | null)[] = []
  const tools = {
    now: () => NOW,
    newId: () => 'new',
    digest: (text: string) => `digest of ${text}`,
    sign: async (_algorithm: string, typ: string | null, given: object) => {
      types.push(typ)
      claims.push(given)
      return 'minted'
    },
    encrypt: async (typ: string | null, token: string) => {
      types.push(typ)
      return `encrypted ${token}`
    },
    http: {
      post: async ({ body }: { body: string }) => {
        posted.push(body)
        return { kind: 'response', retryAfter: null, ...answer }
      },
    },
  } as unknown as Tools
  const delivery = {
    ...{ sid: 's1', attempts: 0 },
    event: { iss: 'https://idp.example', givenId: 'event', sub: 'u1', txn: 'txn of the IdP' },
  } as unknown as InFlightDelivery
  const job: Job<BackchannelSettings> = {
    ...{ delivery, binding: BINDING, settings: { ...SETTINGS, ...settings } },
    ...{ startedAt: NOW, firstMessage },
  }
  return { ...(await backchannel.send(job, tools)), posted, claims, types }
}

describe('the token of the IdP', () => {
  test.each([
    ['has not expired', { exp: NOW_S + 1 }],
    ['has no exp and is younger than 120 s', { iat: NOW_S - 119 }],
  ])('ING-03: is forwarded byte for byte if it %s', async (_, claims) => {
    const token = tokenWith(claims)
    const sent = await send(token)
    expect(sent.posted).toEqual([`logout_token=${token}`])
    expect(sent).toMatchObject({ jti: 'of the IdP', tokenDigest: `digest of ${token}`, claims: [] })
    expect(sent.outcome).toMatchObject({ kind: 'acknowledged', level: 'done' })
  })

  test.each([
    ['has expired', { exp: NOW_S }],
    ['has no exp and is 120 s old', { iat: NOW_S - 120 }],
  ])('is replaced by a new token if it %s', async (_, claims) => {
    const { posted, jti } = await send(tokenWith(claims))
    expect([posted, jti]).toEqual([['logout_token=minted'], 'new'])
  })

  test('is forwarded as it is to an RP that asks for encrypted tokens', async () => {
    const token = tokenWith({ exp: NOW_S + 60 })
    const encryption = { alg: 'RSA-OAEP-256', enc: 'A256GCM' } as const
    expect((await send(token, { encryption })).posted).toEqual([`logout_token=${token}`])
    expect((await send(null, { encryption })).posted).toEqual(['logout_token=encrypted minted'])
  })

  test('is the first message of its client only', () => {
    const relayed = { clientId: 'mail' as ClientId, token: 't', verified: true }
    const prepared = (clientId: string) =>
      backchannel.prepare?.({ relayed }, { clientId: clientId as ClientId })
    expect([prepared('mail'), prepared('wiki')]).toEqual(['t', null])
    expect(backchannel.prepare?.({}, BINDING)).toBeNull()
  })
})

test('ING-03: a new token repeats the txn of the IdP, and has an id of its own', async () => {
  const { claims } = await send(null)
  expect(claims).toMatchObject([{ txn: 'txn of the IdP', jti: 'new', sid: 's1', sub: 'u1' }])
})

test.each([
  ['logout+jwt', 'logout+jwt'],
  ['JWT', 'JWT'],
  ['none', null],
] as const)(
  'BCL-03: with token_type %s the typ of the token and of its encryption is %j',
  async (token_type, typ) => {
    const encryption = { alg: 'RSA-OAEP-256', enc: 'A256GCM' } as const
    expect((await send(null, { token_type, encryption })).types).toEqual([typ, typ])
    // A token of the IdP stays as it is.
    expect((await send(tokenWith({ exp: NOW_S + 60 }), { token_type })).types).toEqual([])
  },
)

test('BCL-17: an error that the owner registered acknowledges the logout, with a note and the status', async () => {
  const answer = { status: 400, body: '{"error":"unknown_session"}' }
  const refused = await send(null, {}, answer)
  const over = await send(null, { already_ended_errors: ['unknown_session'] }, answer)
  expect(refused.outcome).toMatchObject({ kind: 'refused', status: 400 })
  expect(over.outcome).toEqual({ kind: 'acknowledged', level: 'done', status: 400, note: 'already_ended' })
})
