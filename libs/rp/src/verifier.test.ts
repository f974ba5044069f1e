import { CompactEncrypt, exportJWK, generateKeyPair, type JWK, SignJWT, UnsecuredJWT } from 'jose'
import { beforeAll, describe, expect, test } from 'vitest'
import { LOGOUT_EVENT } from './claims.ts'
import {
  CLIENT_ID,
  claimsWith,
  createKey,
  ISSUER,
  jwksOf,
  NOW,
  NOW_S,
  type SigningKey,
} from './issuer.fixture.ts'
import { createLogoutTokenVerifier, type LogoutTokenVerifierOptions } from './verifier.ts'

// Goal: a token passes if, and only if, it keeps the rules of Back-Channel Logout 2.6.
// Method: real keys; tokens that each break one rule; tokens with the headers and claims that other OPs were seen to send.

let key: SigningKey
beforeAll(async () => {
  key = await createKey('k1')
})

type Overrides = Partial<LogoutTokenVerifierOptions>
const verify = (token: string, overrides: Overrides = {}) =>
  createLogoutTokenVerifier({
    issuer: ISSUER,
    clientId: CLIENT_ID,
    jwks: jwksOf(key),
    now: () => NOW,
    ...overrides,
  }).verify(token)

const refused = (description: string) => ({ ok: false, error: 'invalid_request', description })

describe('a valid token', () => {
  test('passes with all its claims, and stays usable until its exp plus the clock skew', async () => {
    const claims = claimsWith({ txn: 'event-1', extra: { a: 1 } })
    expect(await verify(await key.sign(claims))).toEqual({ ok: true, claims, usableForS: 180 })
  })

  test.each(['RS256', 'PS256', 'ES256', 'ES384', 'EdDSA'])('passes in %s', async (alg) => {
    const other = await createKey('k2', alg)
    expect(await verify(await other.sign(), { jwks: jwksOf(key, other) })).toMatchObject({ ok: true })
  })

  test.each([
    ['EdDSA', 'Ed25519'],
    ['Ed25519', 'EdDSA'],
    ['Ed25519', 'Ed25519'],
  ])('passes with a key for %s and a header that says %s (RFC 9864)', async (keyAlg, alg) => {
    const other = await createKey('k2', keyAlg)
    const token = await other.sign(claimsWith(), { alg })
    expect(await verify(token, { jwks: jwksOf(key, other) })).toMatchObject({ ok: true })
    for (const name of ['EdDSA', 'Ed25519'])
      expect(await verify(token, { jwks: jwksOf(other), algorithms: [name] })).toMatchObject({ ok: true })
    expect(await verify(token, { jwks: jwksOf(other), algorithms: ['ES256'] })).toMatchObject(
      refused('alg is not one of ES256'),
    )
  })

  test('from the worked example passes until it expires', async () => {
    const jwk = {
      kty: 'RSA',
      n: 'xPplEWQNNL8DVq1Sj0xyc-GzDttbOYbFm4Yfw69VmPNDrU1nCGwooF-4Z42w5EX-2NVJNMdvtqwg1MRUnf0aENcdlIXYrfJRCEwiefvVLTCJBaHVT7suIb_LeryxsJgrEDgHhIGMVnkIHIEPLlAjtfqdyjN3AMtPL2KzjuRKAC731hH2qQBSzyXSMohcGcWWLs23VElUy4puc80wJ5OujyRdTLSy9SNUIIb02Ck5lNSU_VR_thWWHgxUvIK8pvxE_0kSBZ069Xy1iHK6_qYr_zFfYwWZ1T92AZZmFYl0V67XuNxSxiLHkHEZFiWal206NwxVSIAaAWzsMn7p8ckCuw',
      e: 'AQAB',
      kid: 'fanout-2026-11',
      use: 'sig',
      alg: 'RS256',
    }
    const token =
      'eyJhbGciOiJSUzI1NiIsImtpZCI6ImZhbm91dC0yMDI2LTExIiwidHlwIjoibG9nb3V0K2p3dCJ9.eyJpc3MiOiJodHRwczovL2lkcC5leGFtcGxlLmNvbSIsImF1ZCI6InJwLWJpbGxpbmciLCJpYXQiOjE3OTUyNTE2MDAsImV4cCI6MTc5NTI1MTcyMCwianRpIjoibHQtMDFKRDZZMFE0VjdUOSIsInN1YiI6InUtOWYzMWMyIiwic2lkIjoic2VzLTdjMWUwYjk0YTZkMyIsImV2ZW50cyI6eyJodHRwOi8vc2NoZW1hcy5vcGVuaWQubmV0L2V2ZW50L2JhY2tjaGFubmVsLWxvZ291dCI6e319fQ.dg8Y-GMX-V-Bv4uYnW01lbROIL-PiLvMlIAJpv9F7L3bS4OfLuauRUPs_N7rHu4S07ofhwMWsXLyWefySK0IMMR63sBq-weALOTo9foPqDWEz6aMsA2TduioS78UNlYK_4n3YE1o7faRrlMQnZBPHudWc2FCT2554sPyq2_GjB6CmgqtPKS52j3BXQ-h0SGSiY4LO36LrQaDlpRr8fvTxY3NN1wYFQ2_eeRg3rCdEIuKUr4gpTaVLronAau81RMSUkhbFSDzkowD7WOOakFBijTc99aqkA-FjfWX2N1vzcxUFy0r4hJaR6hpzzLhZhjZm-q1tlo8iIBso1q3LGtyCg'
    const options = { issuer: 'https://idp.example.com', clientId: 'rp-billing', jwks: { keys: [jwk] } }
    expect(await verify(token, options)).toMatchObject({ ok: true, claims: { sub: 'u-9f31c2' } })
    const late = () => new Date(NOW.getTime() + 180_000)
    expect(await verify(token, { ...options, now: late })).toMatchObject(refused('exp is in the past'))
  })
})

test.each([
  ['expired', { iat: NOW_S - 179, exp: NOW_S - 59 }],
  ['issued in the future', { iat: NOW_S + 60 }],
  ['not yet valid', { nbf: NOW_S + 60 }],
  ['issued almost a day ago', { iat: NOW_S - 86_459 }],
])('a clock difference of a minute is tolerated: %s', async (_name, change) => {
  const token = await key.sign(claimsWith(change))
  expect(await verify(token)).toMatchObject({ ok: true })
  expect(await verify(token, { clockSkewS: 0 })).toMatchObject({ ok: false })
})

test('a token that is too long is refused', async () => {
  const lengthOf = async (extra: number) => key.sign(claimsWith({ extra: 'x'.repeat(extra) }))
  const [long, tooLong] = [await lengthOf(11_500), await lengthOf(12_000)]
  expect(await verify(long)).toMatchObject({ ok: true })
  expect(await verify(tooLong)).toMatchObject(refused('the token is too long'))
})

describe('a token that breaks one rule is refused (BCL-20, BCL-22)', () => {
  test.each<[string, Record<string, unknown>, string]>([
    ['another issuer', { iss: 'https://other.example' }, `iss is not ${ISSUER}`],
    ['an issuer with an extra slash', { iss: `${ISSUER}/` }, `iss is not ${ISSUER}`],
    ['no issuer', { iss: undefined }, 'iss is missing'],
    ['another audience', { aud: 'other' }, `aud does not contain ${CLIENT_ID}`],
    ['other audiences', { aud: ['a', 'b'] }, `aud does not contain ${CLIENT_ID}`],
    ['no audience', { aud: undefined }, 'aud is missing'],
    ['expired', { iat: NOW_S - 180, exp: NOW_S - 60 }, 'exp is in the past'],
    ['no exp', { exp: undefined }, 'exp is missing'],
    ['an exp that is a string', { exp: '2026' }, 'exp is not valid'],
    ['not yet valid', { nbf: NOW_S + 61 }, 'nbf is not valid'],
    ['no iat', { iat: undefined }, 'iat is missing'],
    ['issued in the future', { iat: NOW_S + 61, exp: NOW_S + 120 }, 'iat is in the future'],
    ['issued yesterday', { iat: NOW_S - 86_460, exp: NOW_S + 120 }, 'iat is too long ago'],
    ['no jti', { jti: undefined }, 'jti is not a non-empty string'],
    ['an empty jti', { jti: '' }, 'jti is not a non-empty string'],
    ['neither sub nor sid', { sub: undefined, sid: undefined }, 'neither sub nor sid is present'],
    ['a sub that is a number', { sub: 7 }, 'sub is not a non-empty string'],
    ['an empty sid', { sid: '' }, 'sid is not a non-empty string'],
    ['a sid of null', { sid: null }, 'sid is not a non-empty string'],
    ['a txn that is a number', { txn: 1 }, 'txn is not a string'],
    ['no events', { events: undefined }, 'events is not an object'],
    ['events as a list', { events: [LOGOUT_EVENT] }, 'events is not an object'],
    ['events of null', { events: null }, 'events is not an object'],
    ['another event', { events: { 'https://other.example': {} } }, `events has no object ${LOGOUT_EVENT}`],
    [
      'the logout event with https',
      { events: { [LOGOUT_EVENT.replace('http:', 'https:')]: {} } },
      `events has no object ${LOGOUT_EVENT}`,
    ],
    ['an event of true', { events: { [LOGOUT_EVENT]: true } }, `events has no object ${LOGOUT_EVENT}`],
    ['a nonce', { nonce: 'n' }, 'nonce is prohibited'],
    ['a nonce of null', { nonce: null }, 'nonce is prohibited'],
  ])('%s', async (_name, change, description) => {
    const token = await key.sign(claimsWith(change))
    expect(await verify(token)).toMatchObject(refused(description))
    // `lenient` allows only a missing exp.
    if (description !== 'exp is missing')
      expect(await verify(token, { lenient: true })).toMatchObject(refused(description))
  })

  test.each([undefined, 'JWT', 'at+jwt', 'secevent+jwt', 'dpop+jwt', '', 'logout'])('typ %s', async (typ) => {
    expect(await verify(await key.sign(undefined, { typ }))).toMatchObject(refused('typ is not logout+jwt'))
  })

  test.each(['logout+jwt', 'Logout+JWT', 'application/logout+jwt'])('typ %s is accepted', async (typ) => {
    expect(await verify(await key.sign(undefined, { typ }))).toMatchObject({ ok: true })
  })

  test('an algorithm that was not registered', async () => {
    expect(await verify(await key.sign(), { algorithms: ['RS256'] })).toMatchObject(
      refused('alg is not one of RS256'),
    )
  })

  test('alg none', async () => {
    const token = new UnsecuredJWT(claimsWith()).encode()
    const [, payload] = token.split('.')
    const none = Buffer.from(JSON.stringify({ alg: 'none', typ: 'logout+jwt', kid: 'k1' })).toString(
      'base64url',
    )
    expect(await verify(`${none}.${payload}.`)).toMatchObject({ ok: false, error: 'invalid_request' })
    expect(await verify(token, { lenient: true })).toMatchObject({ ok: false, error: 'invalid_request' })
  })

  test('HS256 with the public key as the secret (RFC 8725 2.1)', async () => {
    const rsa = await createKey('k1', 'RS256')
    for (const secret of [JSON.stringify(rsa.publicJwk), String(rsa.publicJwk.n)]) {
      const token = await new SignJWT(claimsWith())
        .setProtectedHeader({ alg: 'HS256', kid: 'k1', typ: 'logout+jwt' })
        .sign(new TextEncoder().encode(secret))
      expect(await verify(token, { jwks: jwksOf(rsa) })).toMatchObject({
        ok: false,
        error: 'invalid_request',
      })
    }
  })

  test('a signature of another key with the same kid, a changed payload, no signature', async () => {
    const [header = '', payload = '', signature = ''] = (await key.sign()).split('.')
    const other = Buffer.from(JSON.stringify(claimsWith({ sub: 'mallory' }))).toString('base64url')
    const forged = await (await createKey('k1')).sign()
    for (const token of [forged, `${header}.${other}.${signature}`, `${header}.${payload}.`])
      expect(await verify(token)).toMatchObject(refused('the signature does not verify'))
  })

  test('a key in the header of the token', async () => {
    const mine = await createKey('mine')
    const header = { jwk: mine.publicJwk, jku: 'https://evil.example/keys' }
    expect(await verify(await mine.sign(undefined, header))).toMatchObject(
      refused('no key of the issuer matches kid and alg'),
    )
  })

  test('an unknown critical header (RFC 7515 4.1.11)', async () => {
    const token = await key.sign()
    const header = { alg: 'ES256', kid: 'k1', typ: 'logout+jwt', crit: ['x'], x: 1 }
    const changed = [Buffer.from(JSON.stringify(header)).toString('base64url'), ...token.split('.').slice(1)]
    expect(await verify(changed.join('.'))).toMatchObject({ ok: false, error: 'invalid_request' })
  })

  test.each(['', 'a', '..', 'a.b.c', '{}', '\u0000', `${'a'.repeat(20_000)}.b.c`, 'a.b.c.d.e'])(
    'a malformed token: %j',
    async (token) => {
      expect(await verify(token)).toMatchObject({ ok: false, error: 'invalid_request' })
    },
  )

  test('no kid while several keys match', async () => {
    const token = await key.sign(undefined, { kid: undefined })
    expect(await verify(token)).toMatchObject({ ok: true })
    const jwks = jwksOf(key, await createKey('k2'))
    expect(await verify(token, { jwks })).toMatchObject(refused('kid is missing, and several keys match'))
  })

  test('with a broken key of the issuer, which is a logout_failed', async () => {
    const jwks = { keys: [{ ...key.publicJwk, x: 'AAAA' }] }
    expect(await verify(await key.sign(), { jwks })).toMatchObject({ ok: false, error: 'logout_failed' })
  })
})

describe('other JWTs of the same issuer and client', () => {
  const { events: _events, jti: _jti, ...common } = claimsWith()
  test.each<[string, Record<string, unknown>, Record<string, unknown>]>([
    ['an ID token', { ...common, nonce: 'n', auth_time: NOW_S }, { typ: 'JWT' }],
    ['an ID token without a nonce', common, { typ: undefined }],
    ['an ID token with events', { ...claimsWith(), nonce: 'n' }, { typ: 'JWT' }],
    [
      'an access token (RFC 9068)',
      { ...common, jti: 'j', client_id: CLIENT_ID, scope: 'a' },
      { typ: 'at+jwt' },
    ],
    [
      'a security event',
      claimsWith({ events: { 'https://schemas.openid.net/secevent/caep': {} } }),
      { typ: 'secevent+jwt' },
    ],
  ])('%s never passes', async (_name, claims, header) => {
    const token = await key.sign(claims, header)
    for (const lenient of [false, true])
      expect(await verify(token, { lenient })).toMatchObject({ ok: false, error: 'invalid_request' })
  })
})

// Headers and claims follow the source code of the OPs, with times moved to now.
describe('a token as other OPs send it passes, if need be with lenient:', () => {
  const keycloak = {
    iat: NOW_S,
    jti: 'c0ffee00-0000-4000-8000-000000000001',
    iss: ISSUER,
    aud: CLIENT_ID,
    sub: '9f31c2aa-0000-4000-8000-000000000002',
    typ: 'Logout',
    sid: '7c1e0b94-0000-4000-8000-000000000003',
    events: { [LOGOUT_EVENT]: {}, revoke_offline_access: true },
  }
  const hydra = {
    aud: [CLIENT_ID],
    events: { [LOGOUT_EVENT]: {} },
    iat: NOW_S,
    iss: ISSUER,
    jti: 'b9a4d0c2-0000-4000-8000-000000000004',
    sid: '0b6b2b5a-0000-4000-8000-000000000005',
  }
  const suite = claimsWith({ sub: undefined, foo: 'bar' })

  test.each<[string, Record<string, unknown>, Record<string, unknown>, 'strict' | 'lenient']>([
    ['oidc-provider', claimsWith(), {}, 'strict'],
    ['oidc-provider, older: no exp, no typ', claimsWith({ exp: undefined }), { typ: undefined }, 'lenient'],
    ['Keycloak', { ...keycloak, exp: NOW_S + 120 }, {}, 'strict'],
    ['Keycloak, older: no exp, typ JWT', keycloak, { typ: 'JWT' }, 'lenient'],
    ['Hydra: no exp, no typ', hydra, { typ: undefined }, 'lenient'],
    ['Hydra: no exp, typ JWT', hydra, { typ: 'JWT' }, 'lenient'],
    ['the conformance suite', suite, {}, 'strict'],
    ['sub only', claimsWith({ sid: undefined }), {}, 'strict'],
    ['several audiences', claimsWith({ aud: ['a', CLIENT_ID] }), {}, 'strict'],
  ])('%s', async (_name, claims, header, needed) => {
    const token = await key.sign(claims, header)
    expect(await verify(token)).toMatchObject({ ok: needed === 'strict' })
    expect(await verify(token, { lenient: true })).toMatchObject({ ok: true })
  })

  // The header and the claims that Auth0's documentation shows, with other values.
  test('Auth0: typ JWT, an issuer that ends with a slash, and a trace_id', async () => {
    const auth0 = await createKey('tenant-key', 'RS256')
    const [issuer, clientId] = ['https://tenant.eu.auth0.com/', 'k3LmN0pQrStUvWxYz1234567890AbCdE']
    const claims = {
      iss: issuer,
      sub: 'auth0|65f0c2d19a3b4e5f60718293',
      aud: clientId,
      iat: NOW_S,
      exp: NOW_S + 120,
      jti: '0f3c1d52-6a7b-4c8d-9e0f-1a2b3c4d5e6f',
      events: { [LOGOUT_EVENT]: {} },
      trace_id: '5d1f0a9c3b7e2468',
      sid: 'Zx9_yW8vU7tS6rQ5pO4nM3lK2jI1hG0f',
    }
    const token = await auth0.sign(claims, { typ: 'JWT' })
    const options = { issuer, clientId, jwks: jwksOf(auth0), algorithms: ['RS256'] }
    expect(await verify(token, options)).toMatchObject(refused('typ is not logout+jwt'))
    expect(await verify(token, { ...options, lenient: true })).toEqual({ ok: true, claims, usableForS: 180 })
  })

  test('without exp, for four minutes plus the clock skew', async () => {
    const token = await key.sign(hydra, { typ: undefined })
    const at = (afterS: number) =>
      verify(token, { lenient: true, now: () => new Date(NOW.getTime() + afterS * 1_000) })
    expect(await at(0)).toMatchObject({ ok: true, usableForS: 300 })
    expect(await at(299)).toMatchObject({ ok: true, usableForS: 1 })
    expect(await at(300)).toMatchObject(refused('iat is too long ago'))
  })
})

describe('an encrypted token (Back-Channel Logout 2.6 step 1)', () => {
  let publicKey: Awaited<ReturnType<typeof generateKeyPair>>['publicKey']
  let decryptionKeys: JWK[]
  beforeAll(async () => {
    const pair = await generateKeyPair('ECDH-ES+A256KW', { extractable: true })
    publicKey = pair.publicKey
    const other = await generateKeyPair('ECDH-ES+A256KW', { extractable: true })
    decryptionKeys = [
      { ...(await exportJWK(other.privateKey)), kid: 'other' },
      { ...(await exportJWK(pair.privateKey)), kid: 'enc' },
    ]
  })
  const encrypt = (token: string, header: Record<string, unknown> = {}) =>
    new CompactEncrypt(new TextEncoder().encode(token))
      .setProtectedHeader({ alg: 'ECDH-ES+A256KW', enc: 'A256GCM', kid: 'enc', cty: 'JWT', ...header })
      .encrypt(publicKey)

  test('passes with the right key, and its inner token is verified', async () => {
    const jwe = await encrypt(await key.sign(), { iss: ISSUER })
    expect(await verify(jwe, { decryptionKeys, requireEncryption: true })).toMatchObject({ ok: true })
    const forged = await encrypt(await (await createKey('k1')).sign())
    expect(await verify(forged, { decryptionKeys })).toMatchObject(refused('the signature does not verify'))
    const twice = await encrypt(await encrypt(await key.sign()))
    expect(await verify(twice, { decryptionKeys })).toMatchObject({ ok: false, error: 'invalid_request' })
  })

  test('is refused without a key, with other keys, and after a change', async () => {
    const jwe = await encrypt(await key.sign())
    expect(await verify(jwe)).toMatchObject(refused('the token is encrypted, and no decryption key is set'))
    const failed = refused('the token cannot be decrypted')
    expect(await verify(jwe, { decryptionKeys: decryptionKeys.slice(0, 1) })).toMatchObject(failed)
    const changed = jwe.replace(
      /\.(.)([^.]*\.[^.]*)$/,
      (_, first, rest) => `.${first === 'A' ? 'B' : 'A'}${rest}`,
    )
    expect(await verify(changed, { decryptionKeys })).toMatchObject(failed)
  })

  test('is refused if its header names another issuer, or it is compressed', async () => {
    const other = await encrypt(await key.sign(), { iss: 'https://other.example' })
    expect(await verify(other, { decryptionKeys })).toMatchObject(refused(`iss is not ${ISSUER}`))
    const zipped = await encrypt(await key.sign(), { zip: 'DEF' })
    expect(await verify(zipped, { decryptionKeys })).toMatchObject(refused('the token is malformed'))
  })

  test('is refused if it uses a shared key or a password (RFC 8725 3.2)', async () => {
    const secret = new Uint8Array(32).fill(7)
    const keys = [{ kty: 'oct', k: Buffer.from(secret).toString('base64url') }]
    for (const alg of ['dir', 'A256KW', 'A256GCMKW', 'PBES2-HS256+A128KW']) {
      const jwe = await new CompactEncrypt(new TextEncoder().encode(await key.sign()))
        .setProtectedHeader({ alg, enc: 'A256GCM' })
        .encrypt(secret)
      expect(await verify(jwe, { decryptionKeys: keys })).toMatchObject({
        ok: false,
        error: 'invalid_request',
      })
    }
  })

  test('is required only with requireEncryption', async () => {
    const token = await key.sign()
    expect(await verify(token, { decryptionKeys })).toMatchObject({ ok: true })
    const required = { decryptionKeys, requireEncryption: true }
    expect(await verify(token, required)).toMatchObject(refused('the token is not encrypted'))
  })
})

test.each<[string, Overrides, RegExp]>([
  ['no issuer', { issuer: '' }, /issuer/],
  ['no clientId', { clientId: '' }, /clientId/],
  ['a symmetric algorithm', { algorithms: ['HS256'] }, /HS256/],
  ['alg none', { algorithms: ['none'] }, /none/],
  ['no algorithm', { algorithms: [] }, /algorithms/],
  ['encryption without a key', { requireEncryption: true }, /decryptionKeys/],
  ['an issuer over http', { issuer: 'http://idp.example', jwks: undefined }, /https/],
  ['an issuer that is not a URL', { issuer: 'idp', jwks: undefined }, /https/],
  ['keys over http', { jwksUri: 'http://idp.example/keys', jwks: undefined }, /https/],
  ['keys that are not a JWK Set', { jwks: {} as never }, /Key Set/],
])('a verifier cannot be created with %s', (_name, overrides, message) => {
  const options = { issuer: ISSUER, clientId: CLIENT_ID, jwks: jwksOf(key), ...overrides }
  expect(() => createLogoutTokenVerifier(options)).toThrow(message)
})
