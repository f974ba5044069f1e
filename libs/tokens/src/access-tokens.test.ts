import { AuthorizationServerUnavailableError } from '@curfew/domain'
import { exportJWK, generateKeyPair, type JWK, type JWTPayload, SignJWT } from 'jose'
import { beforeAll, describe, expect, test } from 'vitest'
import { type AuthorizationServer, createAccessTokenVerifier } from './access-tokens.ts'

// Goal: an access token is accepted only if its authorization server issued it to Curfew, as an access token, and it is valid
// now.
// Method: one good token, and tokens that each break one rule (RFC 9068 4, RFC 8725 3).

const NOW = new Date('2026-11-21T12:00:00Z')
const SERVER: AuthorizationServer = {
  issuer: 'https://as.example',
  audience: 'https://curfew.example',
  jwksUri: 'https://as.example/jwks',
  algorithms: ['ES256'],
  clockSkewS: 30,
  anyType: false,
  scopeClaim: 'scope',
  scopeOf: null,
  boundTo: null,
  issuerClaim: null,
  clientsClaim: null,
}
const SCOPES = new Set(['events:write', 'clients:read', 'admin'])

interface Key {
  readonly privateKey: CryptoKey
  readonly jwk: JWK
}
async function newKey(kid: string, alg = 'ES256'): Promise<Key> {
  const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true })
  return { privateKey, jwk: { ...(await exportJWK(publicKey)), kid, alg } }
}
let key: Key
let other: Key
beforeAll(async () => {
  key = await newKey('one')
  other = await newKey('two')
})

interface Made {
  readonly claims?: JWTPayload
  readonly header?: { readonly alg?: string; readonly kid?: string; readonly typ?: string }
  readonly by?: Key
}
const nowS = NOW.getTime() / 1_000
function make({ claims = {}, header = {}, by = key }: Made = {}): Promise<string> {
  const good = {
    iss: SERVER.issuer,
    aud: SERVER.audience,
    sub: 'idp-1',
    iat: nowS,
    exp: nowS + 300,
    scope: 'events:write unknown:scope clients:read',
  }
  return new SignJWT(
    Object.fromEntries(Object.entries({ ...good, ...claims }).filter(([, v]) => v !== undefined)),
  )
    .setProtectedHeader({ alg: 'ES256', kid: by.jwk.kid ?? '', typ: 'at+jwt', ...header })
    .sign(by.privateKey)
}

function verifier(
  server: Partial<AuthorizationServer> = {},
  keys: () => readonly JWK[] | null = () => [key.jwk],
) {
  let fetches = 0
  let nowMs = NOW.getTime()
  const verify = createAccessTokenVerifier({
    servers: [{ ...SERVER, ...server }],
    async fetchJwks() {
      fetches++
      const found = keys()
      return found === null ? { ok: false, detail: 'unavailable' } : { ok: true, value: { keys: found } }
    },
    scopes: SCOPES,
    now: () => new Date(nowMs),
  })
  return { verify, fetches: () => fetches, pass: (ms: number) => (nowMs += ms) }
}

describe('a token', () => {
  test('grants the scopes that exist, and drops unknown ones', async () => {
    expect(await verifier().verify(await make())).toEqual({
      name: 'idp-1@https://as.example',
      scopes: new Set(['events:write', 'clients:read']),
      issuer: null,
      clients: null,
      expiresAt: expect.any(Date),
    })
  })

  test.each<[string, Made]>([
    ['another issuer', { claims: { iss: 'https://as.example/' } }],
    ['another audience', { claims: { aud: 'https://other.example' } }],
    ['no audience', { claims: { aud: undefined } as unknown as JWTPayload }],
    ['no expiry', { claims: { exp: undefined } as unknown as JWTPayload }],
    ['no subject', { claims: { sub: undefined } as unknown as JWTPayload }],
    ['expired beyond the skew', { claims: { exp: nowS - 31 } }],
    ['not valid yet', { claims: { nbf: nowS + 31 } }],
    ['issued in the future beyond the skew', { claims: { iat: nowS + 31 } }],
    ['a subject that is a number', { claims: { sub: 7 } as unknown as JWTPayload }],
    ['a subject that is an object', { claims: { sub: { admin: true } } as unknown as JWTPayload }],
    ['an empty subject', { claims: { sub: '' } }],
    ['a plain JWT', { header: { typ: 'JWT' } }],
    ['a logout token', { header: { typ: 'logout+jwt' } }],
  ])('is rejected: %s', async (_case, made) => {
    expect(await verifier().verify(await make(made))).toBeNull()
  })

  test.each([
    ['EdDSA', 'Ed25519'],
    ['Ed25519', 'EdDSA'],
  ])('is accepted with a key for %s and a header that says %s (RFC 9864)', async (keyAlg, alg) => {
    const by = await newKey('ed', keyAlg)
    const token = await make({ by, header: { alg } })
    for (const name of ['EdDSA', 'Ed25519'])
      expect(await verifier({ algorithms: [name] }, () => [by.jwk]).verify(token)).not.toBeNull()
    expect(await verifier({ algorithms: ['ES256'] }, () => [by.jwk]).verify(token)).toBeNull()
  })

  test('is accepted when the server clock is ahead by less than the skew', async () => {
    expect(await verifier().verify(await make({ claims: { iat: nowS + 29 } }))).not.toBeNull()
  })

  test('is rejected when another key signed it, even under a known kid', async () => {
    expect(await verifier().verify(await make({ by: other }))).toBeNull()
    expect(await verifier().verify(await make({ by: other, header: { kid: 'one' } }))).toBeNull()
  })

  test('is rejected when it is unsigned or its algorithm is not allowed', async () => {
    const [, payload] = (await make()).split('.')
    const none = Buffer.from('{"alg":"none","typ":"at+jwt"}').toString('base64url')
    expect(await verifier().verify(`${none}.${payload}.`)).toBeNull()
    // The public key as a shared secret (RFC 8725 2.1).
    const hs = await new SignJWT({
      iss: SERVER.issuer,
      aud: SERVER.audience,
      sub: 'x',
      iat: nowS,
      exp: nowS + 9,
    })
      .setProtectedHeader({ alg: 'HS256', kid: 'one', typ: 'at+jwt' })
      .sign(new TextEncoder().encode(JSON.stringify(key.jwk)))
    expect(await verifier().verify(hs)).toBeNull()
    const rsa = await newKey('rsa', 'RS256')
    const signed = await make({ by: rsa, header: { alg: 'RS256' } })
    expect(await verifier({}, () => [rsa.jwk]).verify(signed)).toBeNull()
    expect(await verifier({ algorithms: ['RS256'] }, () => [rsa.jwk]).verify(signed)).not.toBeNull()
  })

  test.each(['', '.', '..', 'a.b.c', 'e30.e30.e30', 'e30.bnVsbA.e30'])('is rejected: %j', async (text) => {
    const { verify, fetches } = verifier()
    expect(await verify(text)).toBeNull()
    // A stranger cannot make Curfew fetch keys.
    expect(fetches()).toBe(0)
  })

  test('without the type is accepted where anyType is set, unless its claims mark another kind of token', async () => {
    const { verify } = verifier({ anyType: true })
    expect(await verify(await make({ header: { typ: 'JWT' } }))).not.toBeNull()
    for (const claim of ['nonce', 'events', 'at_hash'])
      expect(await verify(await make({ header: { typ: 'JWT' }, claims: { [claim]: 'x' } }))).toBeNull()
  })
})

describe('the grant', () => {
  test('maps roles to scopes', async () => {
    const scopeOf = { 'curfew-sre': ['admin'], 'curfew-idp': ['events:write'] }
    const { verify } = verifier({ scopeClaim: 'realm_access.roles', scopeOf })
    const roles = ['curfew-idp', 'offline_access', 'constructor', 'admin']
    const granted = await verify(await make({ claims: { realm_access: { roles } } }))
    expect(granted?.scopes).toEqual(new Set(['events:write']))
  })

  test('is bound to the issuer and clients that are set for the server', async () => {
    const { verify } = verifier({ boundTo: { issuer: 'main', clients: ['mail'] } })
    expect(await verify(await make())).toMatchObject({ issuer: 'main', clients: ['mail'] })
  })

  test('is bound by the configured claims, and a token without these claims is rejected', async () => {
    const { verify } = verifier({ issuerClaim: 'curfew_issuer', clientsClaim: 'https://curfew/clients' })
    const claims = { curfew_issuer: 'main', 'https://curfew/clients': ['mail', 'wiki'] }
    expect(await verify(await make({ claims }))).toMatchObject({ issuer: 'main', clients: ['mail', 'wiki'] })
    expect(await verify(await make({ claims: { curfew_issuer: 'main' } }))).toBeNull()
    expect(await verify(await make({ claims: { ...claims, curfew_issuer: 7 } }))).toBeNull()
    expect(await verify(await make())).toBeNull()
  })
})

describe('keys', () => {
  test('are fetched once for many concurrent tokens', async () => {
    const { verify, fetches } = verifier()
    const token = await make()
    await Promise.all(Array.from({ length: 20 }, () => verify(token)))
    expect(fetches()).toBe(1)
  })

  test('are fetched again for an unknown kid, but at most once per pause', async () => {
    let keys = [key.jwk]
    const { verify, fetches, pass } = verifier({}, () => keys)
    await verify(await make())
    pass(31_000)
    keys = [key.jwk, other.jwk]
    expect(await verify(await make({ by: other }))).not.toBeNull()
    expect(fetches()).toBe(2)
    for (let n = 0; n < 20; n++)
      expect(await verify(await make({ header: { kid: `invented ${n}` } }))).toBeNull()
    expect(fetches()).toBe(2)
  })

  test('stay in use while their server is unavailable; without any key the verifier throws', async () => {
    let unavailable = false
    const { verify, pass } = verifier({}, () => (unavailable ? null : [key.jwk]))
    await verify(await make())
    unavailable = true
    pass(60_000)
    expect(await verify(await make())).not.toBeNull()
    const never = verifier({}, () => null)
    await expect(never.verify(await make())).rejects.toThrow(AuthorizationServerUnavailableError)
  })
})
