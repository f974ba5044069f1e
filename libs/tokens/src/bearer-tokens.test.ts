import { createHmac, createPublicKey } from 'node:crypto'
import { exportJWK, generateKeyPair, type JWK, type JWTPayload, SignJWT } from 'jose'
import { beforeAll, describe, expect, test } from 'vitest'
import { type BearerTokenRules, createBearerTokens } from './bearer-tokens.ts'

// Goal: only a valid access token of the issuer for this audience is accepted, and the reason of a refusal is named.
// Method: one good token, and tokens that each break one rule.

const NOW = new Date('2026-11-21T12:00:00Z')
const nowS = NOW.getTime() / 1_000
const RULES: BearerTokenRules = {
  issuer: 'https://idp.example',
  audiences: ['https://orders.example', 'https://orders.internal'],
  algorithms: ['ES256'],
  clockSkewS: 5,
  anyType: false,
  verify: 'signature',
}

/** Claims to change. An undefined one is left out. */
type Claims = Readonly<Record<string, unknown>>

interface Key {
  readonly privateKey: CryptoKey
  readonly jwk: JWK
}
async function newKey(kid: string): Promise<Key> {
  const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true })
  return { privateKey, jwk: { ...(await exportJWK(publicKey)), kid, alg: 'ES256' } }
}
let key: Key
let other: Key
beforeAll(async () => {
  key = await newKey('one')
  other = await newKey('two')
})

function claimsWith(changed: Claims = {}): JWTPayload {
  const good = { iss: RULES.issuer, aud: RULES.audiences[1], sub: 'alice', iat: nowS, exp: nowS + 300 }
  return Object.fromEntries(
    Object.entries({ ...good, ...changed }).filter(([, value]) => value !== undefined),
  )
}
function make(changed: Claims = {}, header: object = {}, by = key): Promise<string> {
  return new SignJWT(claimsWith(changed))
    .setProtectedHeader({ alg: 'ES256', kid: by.jwk.kid ?? '', typ: 'at+jwt', ...header })
    .sign(by.privateKey)
}
const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')

function open(rules: Partial<BearerTokenRules> = {}, keys: () => readonly JWK[] | null = () => [key.jwk]) {
  let fetches = 0
  let nowMs = NOW.getTime()
  const { verify } = createBearerTokens({
    rules: { ...RULES, ...rules },
    async fetchJwks() {
      fetches++
      const found = keys()
      return found === null ? { ok: false, detail: 'refused' } : { ok: true, value: { keys: found } }
    },
    now: () => new Date(nowMs),
  })
  return { verify, fetches: () => fetches, pass: (ms: number) => (nowMs += ms) }
}
const faultOf = async (token: string, rules: Partial<BearerTokenRules> = {}) => {
  const verified = await open(rules).verify(token)
  return verified.ok ? null : verified.fault
}

test('a valid token is accepted with its claims', async () => {
  expect(await open().verify(await make({ sid: 'abc' }))).toEqual({
    ok: true,
    claims: claimsWith({ sid: 'abc' }),
  })
})

describe.each(['signature', 'none'] as const)('with verify %s, a token is refused', (verify) => {
  test.each<[string, Claims, string]>([
    ['of another issuer', { iss: 'https://idp.example/' }, 'issuer'],
    ['without an issuer', { iss: undefined }, 'issuer'],
    ['for another audience', { aud: 'https://mail.example' }, 'audience'],
    ['without an audience', { aud: undefined }, 'audience'],
    ['after its end', { exp: nowS - 5 }, 'expired'],
    ['without an end', { exp: undefined }, 'claims'],
    ['whose end is text', { exp: 'never' }, 'claims'],
    ['before its beginning', { nbf: nowS + 6 }, 'not_yet_valid'],
  ])('%s', async (_, changed, fault) => {
    expect(await faultOf(await make(changed), { verify })).toBe(fault)
  })

  test('that is no access token', async () => {
    expect(await faultOf(await make({}, { typ: 'JWT' }), { verify })).toBe('type')
    expect(await faultOf(await make({ nonce: 'n' }, { typ: 'JWT' }), { verify, anyType: true })).toBe('type')
    expect(await faultOf(await make({}, { typ: 'JWT' }), { verify, anyType: true })).toBeNull()
  })

  test.each(['', 'a', 'a.b', 'a.b.c', 'a.b.c.d', '..', `${part({ alg: 'ES256' })}.W10.`])(
    'for "%s"',
    async (token) => {
      expect(await faultOf(token, { verify })).toBeOneOf(['not_jwt', 'algorithm', 'issuer', 'signature'])
    },
  )

  test('that is unsigned or signed with a symmetric key', async () => {
    const unsigned = `${part({ alg: 'none', typ: 'at+jwt' })}.${part(claimsWith())}.`
    expect(await faultOf(unsigned, { verify })).toBe('algorithm')
    const pem = createPublicKey({ key: key.jwk as never, format: 'jwk' }).export({
      type: 'spki',
      format: 'pem',
    })
    const input = `${part({ alg: 'HS256', typ: 'at+jwt', kid: 'one' })}.${part(claimsWith())}`
    const forged = `${input}.${createHmac('sha256', pem).update(input).digest('base64url')}`
    expect(await faultOf(forged, { verify })).toBe('algorithm')
  })
})

describe('a signature', () => {
  test('of another key is refused, also under the kid of the issuer', async () => {
    expect(await faultOf(await make({}, {}, other))).toBe('key')
    expect(await faultOf(await make({}, { kid: 'one' }, other))).toBe('signature')
    expect(
      await faultOf(await make({}, { kid: '../../one', jwk: other.jwk, jku: 'https://evil.example' }, other)),
    ).toBe('key')
  })

  test('is not asked for with verify none', async () => {
    const changed = (await make()).replace(/\.[^.]+$/, '.AAAA')
    expect(await faultOf(changed)).toBe('signature')
    expect(await faultOf(changed, { verify: 'none' })).toBeNull()
  })

  test('of a new key is found by one more fetch', async () => {
    let keys = [key.jwk]
    const { verify, fetches, pass } = open({}, () => keys)
    await verify(await make())
    keys = [key.jwk, other.jwk]
    pass(31_000)
    const token = await make({}, {}, other)
    expect(await verify(token)).toMatchObject({ ok: true })
    expect(fetches()).toBe(2)
  })

  test('cannot be judged before the keys were fetched, which is tried again after a second', async () => {
    let keys: readonly JWK[] | null = null
    const { verify, fetches, pass } = open({}, () => keys)
    const token = await make()
    for (let n = 0; n < 3; n++)
      await expect(verify(token)).rejects.toMatchObject({ code: 'ERR_AUTHORIZATION_SERVER_UNAVAILABLE' })
    expect(fetches()).toBe(1)
    keys = [key.jwk]
    pass(1_000)
    expect(await verify(token)).toMatchObject({ ok: true })
  })
})
