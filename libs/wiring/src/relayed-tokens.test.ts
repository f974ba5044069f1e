import type { ClientId, Issuer } from '@curfew/domain'
import { createGuardedClient, type GuardedClient } from '@curfew/outbound'
import { createLog } from '@curfew/runtime'
import { CompactEncrypt, importJWK, SignJWT } from 'jose'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import {
  createProviderKey,
  type IdentityProvider,
  LOGOUT_EVENT,
  openIdentityProvider,
} from '../../../test/support/identity-provider.ts'
import { createRelayedTokens, type RelayedTokenSource, type RelayedTokens } from './relayed-tokens.ts'

// Goal: the relay takes exactly the tokens that the client itself would take. No genuine token is called invalid because the keys
// of the issuer are old or unavailable, and a stranger cannot cause many fetches.
// Method: a real identity provider behind the guarded client, and a clock that is set by hand.

const CLIENT = 'shop'
const MINUTE_MS = 60_000
let idp: IdentityProvider
let client: GuardedClient
/** Set before the tables, which have times. */
let nowMs = Date.now()
let tokens: RelayedTokens

beforeEach(async () => {
  idp = await openIdentityProvider()
  client = createGuardedClient({ allowedNetworks: ['127.0.0.0/8'] })
  nowMs = Date.now()
  tokens = createTokens()
})
afterEach(async () => {
  await client.close()
  await idp[Symbol.asyncDispose]()
})

function createTokens(patienceMs = 200): RelayedTokens {
  const log = createLog({ service: 'test', level: 'silent' })
  return createRelayedTokens({ client, log, now: () => new Date(nowMs), patienceMs })
}

function sourceOf(
  change: Partial<RelayedTokenSource> & { readonly lenient?: boolean } = {},
): RelayedTokenSource {
  const { lenient = false, ...rest } = change
  return {
    ...{ iss: idp.iss as Issuer, clientId: CLIENT as ClientId, networks: { allowedNetworks: null } },
    relay: { jwksUri: null, lenient, widen: false },
    ...rest,
  }
}

const claims = (change: Readonly<Record<string, unknown>> = {}) => {
  const iat = Math.floor(nowMs / 1_000)
  return idp.claims(CLIENT, { iat, exp: iat + 120, ...change })
}
const signed = (change?: Readonly<Record<string, unknown>>, header?: Readonly<Record<string, unknown>>) => {
  const [key] = idp.keys
  if (key === undefined) throw new Error('the identity provider has no key')
  return key.sign(claims(change), header)
}
const verify = (token: string, source = sourceOf()) => tokens.verify(source, token, new Date(nowMs))
const seconds = (from: number) => Math.floor(nowMs / 1_000) + from

const SUBJECT = { sub: 'alice', sid: 's-1' }
const good: [string, object, object, boolean][] = [
  ['with sub and sid', {}, {}, false],
  ['with sub alone', { sid: undefined }, {}, false],
  ['with sid alone', { sub: undefined }, {}, false],
  ['with several audiences', { aud: ['blog', CLIENT] }, {}, false],
  ['with the type as a media type', {}, { typ: 'application/logout+jwt' }, false],
  ['without exp, from an old provider', { exp: undefined }, { typ: undefined }, true],
  ['with typ JWT, from an old provider', {}, { typ: 'JWT' }, true],
]

/** The rules of Back-Channel Logout 2.6, with a token that breaks each. */
const broken: [string, object, object, RegExp][] = [
  ['2.6-2: alg none', {}, { alg: 'none' }, /alg/],
  ['2.6-3: another iss', { iss: 'https://other.example' }, {}, /^iss is not/],
  ['2.6-3: no iss', { iss: undefined }, {}, /iss/],
  ['2.6-3: another aud', { aud: 'blog' }, {}, /^aud does not contain shop/],
  ['2.6-3: no aud', { aud: undefined }, {}, /aud/],
  ['2.6-3: no iat', { iat: undefined }, {}, /iat is missing/],
  ['2.6-3: iat in the future', { iat: seconds(400), exp: seconds(500) }, {}, /iat is in the future/],
  ['2.6-3: exp in the past', { iat: seconds(-900), exp: seconds(-400) }, {}, /exp is in the past/],
  ['2.4: no exp', { exp: undefined }, {}, /exp is missing/],
  ['2.6-4: neither sub nor sid', { sub: undefined, sid: undefined }, {}, /neither sub nor sid/],
  ['2.6-5: no events', { events: undefined }, {}, /events/],
  ['2.6-5: another event', { events: { 'https://other.example/event': {} } }, {}, /events has no object/],
  ['2.6-5: an event that is no object', { events: { [LOGOUT_EVENT]: true } }, {}, /events has no object/],
  ['2.6-6: a nonce', { nonce: 'n' }, {}, /nonce is prohibited/],
  ['2.6-7: no jti', { jti: undefined }, {}, /jti/],
  ['4.1: another type', {}, { typ: 'at+jwt' }, /typ is not logout\+jwt/],
  ['4.1: no type', {}, { typ: undefined }, /typ is not logout\+jwt/],
  ['RFC 8417 2.2: a txn that is no text', { txn: 7 }, {}, /txn is not a string/],
]

/** Signs with any header. A token with `alg: none` has an empty signature. */
async function tokenWith(change: object, header: { readonly alg?: string }): Promise<string> {
  if (header.alg !== 'none') return signed({ ...SUBJECT, ...change }, header as Record<string, unknown>)
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  return `${part({ alg: 'none', typ: 'logout+jwt' })}.${part(claims(change as Record<string, unknown>))}.`
}

describe('a token', () => {
  test.each(good)('%s is verified', async (_, change, header, lenient) => {
    const source = sourceOf({ lenient })
    const token = await tokenWith(change, header)
    expect(await verify(token, source)).toMatchObject({ ok: true, claims: { iss: idp.iss } })
    expect(await tokens.preview(source, token, new Date(nowMs))).toMatchObject({ ok: true })
  })

  test.each(broken)(
    'that breaks a rule is invalid, without its key, too: %s',
    async (_, change, header, words) => {
      const token = await tokenWith(change, header)
      const fault = { ok: false, kind: 'invalid', description: expect.stringMatching(words) }
      expect(await verify(token)).toEqual(fault)
      expect(await tokens.preview(sourceOf(), token, new Date(nowMs))).toEqual(fault)
    },
  )

  test('2.6-2: of another key is invalid', async () => {
    const forged = await (await createProviderKey('k1')).sign(claims())
    expect(await verify(forged)).toEqual({
      ...{ ok: false, kind: 'invalid', description: 'the signature does not verify' },
    })
  })

  test('that is encrypted is invalid, with words that say what to do', async () => {
    const { jwk } = await createProviderKey('e1', 'ECDH-ES')
    const encrypted = await new CompactEncrypt(Buffer.from(await signed()))
      .setProtectedHeader({ alg: 'ECDH-ES', enc: 'A128GCM', typ: 'logout+jwt' })
      .encrypt(await importJWK({ ...jwk, use: 'enc' }, 'ECDH-ES'))
    const description = expect.stringMatching(/encrypted.*turn off the encryption/)
    expect(await verify(encrypted)).toEqual({ ok: false, kind: 'invalid', description })
    expect(idp.requested).toEqual([])
  })

  test('that is signed with a shared secret is invalid, with words that say what to do', async () => {
    const token = await new SignJWT(claims())
      .setProtectedHeader({ alg: 'HS256', typ: 'logout+jwt' })
      .sign(Buffer.alloc(32))
    const description = expect.stringMatching(/HS256.*set an asymmetric algorithm/)
    expect(await verify(token)).toEqual({ ok: false, kind: 'invalid', description })
  })

  test.each(['', 'x', 'a.b.c', 'x'.repeat(20_000), `${'e30.'.repeat(3)}`])(
    'of other text is invalid',
    async (text) => {
      expect(await verify(text)).toMatchObject({ ok: false, kind: 'invalid' })
      expect(await tokens.preview({ clientId: CLIENT as ClientId }, text, new Date(nowMs))).toMatchObject({
        kind: 'invalid',
      })
    },
  )

  test('is verified as of the time at which the relay received it', async () => {
    const token = await signed()
    const receivedAt = new Date(nowMs)
    nowMs += 60 * MINUTE_MS
    expect(await tokens.verify(sourceOf(), token, receivedAt)).toMatchObject({ ok: true })
    expect(await verify(token)).toMatchObject({ kind: 'invalid', description: 'exp is in the past' })
  })

  test('of a provider whose clock is four minutes ahead is verified', async () => {
    expect(await verify(await signed({ iat: seconds(240), exp: seconds(360) }))).toMatchObject({ ok: true })
  })
})

describe('keys', () => {
  test('are fetched once for the clients of an issuer, and again after ten minutes, in the background', async () => {
    const all = await Promise.all(
      ['shop', 'blog', 'shop'].map(async (clientId) =>
        tokens.verify(
          sourceOf({ clientId: clientId as ClientId }),
          await signed({ aud: clientId }),
          new Date(nowMs),
        ),
      ),
    )
    expect(all.map(({ ok }) => ok)).toEqual([true, true, true])
    expect(idp.requested).toEqual(['/.well-known/openid-configuration', '/jwks'])
    nowMs += 11 * MINUTE_MS
    idp.manner = 'hang'
    expect(await verify(await signed())).toMatchObject({ ok: true })
    await vi.waitFor(() => expect(idp.requested).toHaveLength(3))
  })

  test('come from the jwks_uri of the issuer, if it states one', async () => {
    const source = sourceOf({ relay: { jwksUri: idp.jwksUri, lenient: false, widen: false } })
    expect(await verify(await signed(), source)).toMatchObject({ ok: true })
    expect(idp.requested).toEqual(['/jwks'])
  })

  test('of a private network are fetched only if the issuer may use it', async () => {
    const token = await signed()
    const result = await verify(token, sourceOf({ networks: { allowedNetworks: [] } }))
    expect(result).toMatchObject({ ok: false, kind: 'unavailable' })
    expect(idp.requested).toEqual([])
    expect(await verify(token)).toMatchObject({ ok: true })
  })

  test.each(['fail', 'garbage', 'hang'] as const)(
    'that cannot be had (%s) make no token invalid',
    async (manner) => {
      idp.manner = manner
      const token = await signed()
      expect(await verify(token)).toMatchObject({ ok: false, kind: 'unavailable' })
      expect(await tokens.preview(sourceOf(), token, new Date(nowMs))).toMatchObject({ ok: true })
    },
  )

  test('that cannot be had are not asked for by every token', async () => {
    idp.manner = 'fail'
    for (let n = 0; n < 20; n++) await verify(await signed())
    expect(idp.requested).toHaveLength(1)
    idp.manner = 'proper'
    nowMs += 1_000
    expect(await verify(await signed())).toMatchObject({ ok: true })
  })

  test('that were fetched within a day verify while the issuer is unavailable', async () => {
    expect(await verify(await signed())).toMatchObject({ ok: true })
    idp.manner = 'fail'
    nowMs += 23 * 60 * MINUTE_MS
    expect(await verify(await signed())).toMatchObject({ ok: true })
    nowMs += 2 * 60 * MINUTE_MS
    expect(await verify(await signed())).toMatchObject({ kind: 'unavailable' })
  })

  test('that the issuer replaced a minute ago are fetched at once', async () => {
    expect(await verify(await signed())).toMatchObject({ ok: true })
    nowMs += MINUTE_MS
    idp.keys = [await createProviderKey('k2')]
    expect(await verify(await signed())).toMatchObject({ ok: true })
  })

  test.each(['k2', 'k1'])('that the issuer replaced just now are awaited (kid %s)', async (kid) => {
    tokens = createTokens(2_000)
    expect(await verify(await signed())).toMatchObject({ ok: true })
    idp.keys = [await createProviderKey(kid)]
    expect(await verify(await signed())).toMatchObject({ ok: true })
  })

  test('that the issuer replaced just now make its tokens unavailable if they take too long', async () => {
    expect(await verify(await signed())).toMatchObject({ ok: true })
    idp.keys = [await createProviderKey('k2')]
    expect(await verify(await signed())).toMatchObject({ kind: 'unavailable' })
  })

  test('that the issuer replaced after the clock was set back are fetched', async () => {
    expect(await verify(await signed())).toMatchObject({ ok: true })
    nowMs -= 60 * MINUTE_MS
    for (const kid of ['k2', 'k2', undefined]) {
      idp.keys = [await createProviderKey(kid)]
      expect(await verify(await signed())).toMatchObject({ ok: true })
      nowMs += MINUTE_MS
    }
  })

  test('that the issuer replaced while its key set cannot be had make its tokens unavailable', async () => {
    expect(await verify(await signed())).toMatchObject({ ok: true })
    nowMs += MINUTE_MS
    idp.keys = [await createProviderKey('k2')]
    idp.manner = 'hang'
    expect(await verify(await signed())).toMatchObject({ kind: 'unavailable' })
  })

  test('that the issuer replaced under the same kid, or without one, are fetched at once', async () => {
    for (const kid of ['k1', undefined]) {
      idp.keys = [await createProviderKey(kid)]
      nowMs += MINUTE_MS
      expect(await verify(await signed())).toMatchObject({ ok: true })
      idp.keys = [await createProviderKey(kid)]
      nowMs += MINUTE_MS
      expect(await verify(await signed())).toMatchObject({ ok: true })
    }
  })

  test('that no key set has make each token of a flood invalid, and cause few fetches', async () => {
    tokens = createTokens(2_000)
    expect(await verify(await signed())).toMatchObject({ ok: true })
    const before = idp.requested.length
    const stranger = await createProviderKey('invented')
    const nameless = await createProviderKey(undefined)
    const verifyMany = async () => {
      const invented = await Promise.all(
        Array.from({ length: 40 }, (_, n) => (n % 2 === 0 ? stranger : nameless).sign(claims())),
      )
      return Promise.all(invented.map((token) => verify(token)))
    }
    for (let round = 0; round < 2; round++) {
      nowMs += 1
      for (const result of await verifyMany()) expect(result).toMatchObject({ ok: false, kind: 'invalid' })
    }
    expect(idp.requested.length - before).toBeLessThanOrEqual(6)
  })

  test('that are too short make a token invalid', async () => {
    const { privateKey, publicKey } = await crypto.subtle.generateKey(
      {
        name: 'RSASSA-PKCS1-v1_5',
        hash: 'SHA-256',
        modulusLength: 1_024,
        publicExponent: new Uint8Array([1, 0, 1]),
      },
      true,
      ['sign', 'verify'],
    )
    const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
    const text = `${part({ alg: 'RS256', kid: 'weak', typ: 'logout+jwt' })}.${part(claims())}`
    const signature = await crypto.subtle.sign('RSASSA-PKCS1-v1_5', privateKey, Buffer.from(text))
    const jwk = { ...(await crypto.subtle.exportKey('jwk', publicKey)), kid: 'weak' }
    idp.keys = [{ jwk: jwk as { kty: string }, sign: () => Promise.reject(new Error('unused')) }]
    expect(await verify(`${text}.${Buffer.from(signature).toString('base64url')}`)).toMatchObject({
      ...{ kind: 'invalid', description: expect.stringContaining('too short') },
    })
  })
})

test('a preview without the registry takes the issuer from the token', async () => {
  const token = await signed({ exp: undefined }, { typ: undefined })
  expect(await tokens.preview({ clientId: CLIENT as ClientId }, token, new Date(nowMs))).toMatchObject({
    ...{ ok: true, claims: { iss: idp.iss } },
  })
})
