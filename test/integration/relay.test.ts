import { hash } from 'node:crypto'
import { AcceptedLogoutEvent, decodeLogoutEvent } from '@curfew/contract'
import type { LogoutEvent, LogRecord } from '@curfew/domain'
import { createValidator } from '@curfew/runtime'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, ISSUER, openCurfew } from '../support/curfew.ts'
import {
  createProviderKey,
  type IdentityProvider,
  openIdentityProvider,
  postToRelay,
} from '../support/identity-provider.ts'
import { openRelyingParty, type RelyingParty } from '../support/relying-party.ts'

// Goal: an identity provider joins by changing one URL. The relay makes one logout of each genuine token, and of no other.
// Method: a real identity provider signs and publishes its keys. The test sees every record on its way into the event log.

let curfew: Curfew
let idp: IdentityProvider
let rp: RelyingParty
let appended: LogRecord[] = []

beforeAll(async () => {
  curfew = await openCurfew({
    wrapEventLog: (real) => ({
      ...real,
      async append(records) {
        await real.append(records)
        appended.push(...records)
      },
    }),
  })
  idp = await openIdentityProvider({ iss: ISS })
  await curfew.client.putIssuer(ISSUER, { iss: ISS, jwks_uri: idp.jwksUri })
  rp = await openRelyingParty(curfew, { clientId: 'shop' })
})
afterAll(async () => {
  await curfew.stop()
  await rp.close()
  await idp[Symbol.asyncDispose]()
})
beforeEach(() => {
  appended = []
  idp.manner = 'proper'
})

const check = createValidator(AcceptedLogoutEvent)
const events = (): readonly LogoutEvent[] =>
  appended.map((record) => decodeLogoutEvent(record, check, (text) => hash('sha256', text)) as LogoutEvent)
const post = (token: string, clientId = 'shop', headers?: Readonly<Record<string, string>>) =>
  postToRelay(curfew.url, { issuer: ISSUER, clientId, token }, headers)

/** Posts a request that must be refused. @returns its description. */
async function refusal(response: Response, status = 400): Promise<string> {
  expect(response.status).toBe(status)
  expect(response.headers.get('cache-control')).toBe('no-store')
  expect(response.headers.get('content-type')).toBe('application/json')
  const body = (await response.json()) as { error: string; error_description: string }
  expect(body.error).toBe(status < 429 ? 'invalid_request' : 'temporarily_unavailable')
  expect(appended).toEqual([])
  return body.error_description
}

describe('a genuine token', () => {
  test('is answered with an empty 200, and its client is notified', async () => {
    const token = await idp.token('shop', { sid: 'first' })
    const before = rp.received.length
    const response = await post(token)
    expect(response.status).toBe(200)
    expect(await response.text()).toBe('')
    expect(response.headers.get('cache-control')).toBe('no-store')
    const [received] = (await rp.told(before + 1)).slice(before)
    expect(received?.claims).toMatchObject({ iss: ISS, aud: 'shop', sid: 'first' })
  })

  test('becomes an event of its session at the time of the token, for its client alone', async () => {
    const iat = Math.floor(Date.now() / 1_000) - 30
    const token = await idp.token('shop', { iat, txn: 'logout 7' })
    expect((await post(token)).status).toBe(200)
    expect(events()).toMatchObject([
      {
        ...{ iss: ISS, scope: 'session', sub: 'alice', sid: 's-1', clients: ['shop'], lane: 'interactive' },
        ...{ occurredAt: new Date(iat * 1_000), txn: 'logout 7', reason: null },
        relayed: { clientId: 'shop', token, verified: true },
      },
    ])
  })

  test('without a sid ends every session of its subject', async () => {
    expect((await post(await idp.token('shop', { sid: undefined }))).status).toBe(200)
    expect(events()).toMatchObject([{ scope: 'subject', sub: 'alice', sid: null }])
  })

  test('ING-01: that is posted again is one logout', async () => {
    const token = await idp.token('shop', { sid: 'repeated' })
    const answers = await Promise.all([post(token), post(token), post(token)])
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200])
    const [event] = events()
    await eventually(async () => {
      const { rows } = await curfew.db.query('select from events where sid = $1', ['repeated'])
      expect(rows).toHaveLength(1)
    })
    expect(new Set(events().map(({ id }) => id))).toEqual(new Set([event?.id]))
  })

  test('with the jti of a token for another client is a logout of its own', async () => {
    const other = await openRelyingParty(curfew, { clientId: 'https://forum.example/sp?a=1' })
    const jti = 'shared'
    expect((await post(await idp.token('shop', { jti }))).status).toBe(200)
    expect((await post(await idp.token(other.clientId, { jti }), other.clientId)).status).toBe(200)
    expect(events().map(({ clients }) => clients)).toEqual([['shop'], [other.clientId]])
    expect(new Set(events().map(({ id }) => id)).size).toBe(2)
    await other.close()
  })

  test('reaches a client whose id has slashes that a proxy decoded', async () => {
    const other = await openRelyingParty(curfew, { clientId: 'team/app/web' })
    const response = await fetch(`${curfew.url}/relay/${ISSUER}/team/app/web`, {
      method: 'POST',
      body: new URLSearchParams({ logout_token: await idp.token('team/app/web') }),
    })
    expect(response.status).toBe(200)
    expect(events()).toMatchObject([{ clients: ['team/app/web'] }])
    await other.close()
  })

  test('continues the trace of the identity provider', async () => {
    const traceparent = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`
    expect((await post(await idp.token('shop'), 'shop', { traceparent })).status).toBe(200)
    expect(appended[0]?.headers.traceparent).toBe(traceparent)
  })

  test('for a client that was registered a moment ago is taken', async () => {
    const token = await idp.token('fresh')
    expect(await refusal(await post(token, 'fresh'))).toContain('names no registered client')
    const fresh = await openRelyingParty(curfew, { clientId: 'fresh' })
    expect((await post(token, 'fresh')).status).toBe(200)
    await fresh.close()
  })

  test('is in no line of the log', async () => {
    const token = await idp.token('shop', { sub: 'subject-in-no-log', sid: 'sid-in-no-log' })
    await post(token)
    const forged = await (await createProviderKey('k1')).sign(
      idp.claims('shop', { sub: 'subject-in-no-log' }),
    )
    await post(forged)
    const log = curfew.lines.join('')
    expect(log).toContain('relay.refused')
    for (const secret of [token, forged, 'subject-in-no-log', 'sid-in-no-log'])
      expect(log).not.toContain(secret)
  })
})

describe('a request that is refused', () => {
  test('names an issuer that is not registered', async () => {
    const response = await postToRelay(curfew.url, {
      ...{ issuer: 'other', clientId: 'shop', token: await idp.token('shop') },
    })
    expect(await refusal(response)).toContain('names no registered issuer')
  })

  test('names another client than the token', async () => {
    const other = await openRelyingParty(curfew, { clientId: 'blog' })
    expect(await refusal(await post(await idp.token('shop'), 'blog'))).toBe('aud does not contain blog')
    await other.close()
  })

  test('carries a token of another key', async () => {
    const forged = await (await createProviderKey('k1')).sign(idp.claims('shop'))
    expect(await refusal(await post(forged))).toBe('the signature does not verify')
  })

  test('has a sid that an event cannot carry', async () => {
    expect(await refusal(await post(await idp.token('shop', { sid: 'ü' })))).toBe(
      'sid must be printable ASCII',
    )
  })

  test.each<[string, string, RequestInit]>([
    ['has no client in its path', `/relay/${ISSUER}`, { body: new URLSearchParams({ logout_token: 'x' }) }],
    [
      'has an empty client in its path',
      `/relay/${ISSUER}/`,
      { body: new URLSearchParams({ logout_token: 'x' }) },
    ],
    ['has no body', `/relay/${ISSUER}/shop`, {}],
    ['is JSON', `/relay/${ISSUER}/shop`, { body: '{}', headers: { 'content-type': 'application/json' } }],
    ['has no token', `/relay/${ISSUER}/shop`, { body: new URLSearchParams({ token: 'x' }) }],
    [
      'has two tokens',
      `/relay/${ISSUER}/shop`,
      {
        body: new URLSearchParams([
          ['logout_token', 'x'],
          ['logout_token', 'x'],
        ]),
      },
    ],
    [
      'is too large',
      `/relay/${ISSUER}/shop`,
      { body: new URLSearchParams({ logout_token: 'x'.repeat(70_000) }) },
    ],
  ])('%s', async (_, path, init) => {
    await refusal(await fetch(curfew.url + path, { method: 'POST', ...init }))
  })

  test('is no POST', async () => {
    const response = await fetch(`${curfew.url}/relay/${ISSUER}/shop`)
    expect(response.headers.get('allow')).toBe('POST')
    expect(await refusal(response, 405)).toContain('only POST')
  })
})

describe('a token that Curfew minted', () => {
  test('is refused with words, so that crossed URIs make no loop', async () => {
    expect((await post(await idp.token('shop', { sid: 'looped' }))).status).toBe(200)
    const [event] = events()
    await eventually(async () => {
      const { rows } = await curfew.db.query('select from events where sid = $1', ['looped'])
      expect(rows).toHaveLength(1)
    })
    appended = []
    const minted = await idp.token('shop', { sid: 'looped', txn: event?.givenId })
    expect(await refusal(await post(minted))).toContain('leads back to the relay')
  })

  test('is not recognised by a txn that the identity provider made', async () => {
    const txn = '5f0c7a52-8f8e-4d5a-9d0a-6f1f0f5f4c11'
    expect((await post(await idp.token('shop', { txn }))).status).toBe(200)
    expect((await post(await idp.token('shop', { txn, sid: 's-2' }))).status).toBe(200)
  })
})
