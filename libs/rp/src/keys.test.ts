import { beforeAll, beforeEach, describe, expect, test } from 'vitest'
import {
  CLIENT_ID,
  claimsWith,
  createKey,
  type IssuerServer,
  jwksOf,
  openIssuer,
  type SigningKey,
} from './issuer.fixture.ts'
import { createLogoutTokenVerifier, type LogoutTokenVerifierOptions } from './verifier.ts'

// Goal: keys come only from the issuer, follow its rotation, and stay usable while it is unavailable. A stranger cannot cause
// many fetches.
// Method: a real HTTP server for the issuer that records requests, and a clock that is set by hand.

let key: SigningKey
let next: SigningKey
beforeAll(async () => {
  key = await createKey('k1')
  next = await createKey('k2')
})

let nowMs: number
let errors: unknown[]
beforeEach(() => {
  nowMs = Date.now()
  errors = []
})

const verifierFor = ({ issuer }: IssuerServer, overrides: Partial<LogoutTokenVerifierOptions> = {}) =>
  createLogoutTokenVerifier({
    issuer,
    clientId: CLIENT_ID,
    allowInsecureHttp: true,
    now: () => new Date(nowMs),
    onError: (error) => errors.push(error),
    ...overrides,
  })

const tokenOf = ({ issuer }: { issuer: string }, signer: SigningKey) => {
  const iat = Math.floor(nowMs / 1_000)
  return signer.sign(claimsWith({ iss: issuer, iat, exp: iat + 120 }))
}
const DISCOVERY = '/.well-known/openid-configuration'
const unavailable = {
  ok: false,
  error: 'logout_failed',
  description: 'the keys of the issuer are unavailable',
}
const unknown = {
  ok: false,
  error: 'invalid_request',
  description: 'no key of the issuer matches kid and alg',
}

describe('the source of keys', () => {
  test('discovery and keys are fetched once for many concurrent tokens', async () => {
    await using issuer = await openIssuer(jwksOf(key))
    const verifier = verifierFor(issuer)
    expect(issuer.requested).toEqual([])
    const token = await tokenOf(issuer, key)
    const all = await Promise.all(Array.from({ length: 20 }, () => verifier.verify(token)))
    expect(all.filter(({ ok }) => ok)).toHaveLength(20)
    expect(issuer.requested).toEqual([DISCOVERY, '/keys'])
  })

  test('discovery is not fetched if a jwksUri is set', async () => {
    await using issuer = await openIssuer(jwksOf(key))
    const verifier = verifierFor(issuer, { issuer: 'urn:idp', jwksUri: issuer.jwksUri })
    expect(await verifier.verify(await tokenOf({ issuer: 'urn:idp' }, key))).toMatchObject({ ok: true })
    expect(issuer.requested).toEqual(['/keys'])
  })

  test('discovery of an issuer with a path is below that path, without a double slash', async () => {
    await using server = await openIssuer(jwksOf(key))
    for (const path of ['/realms/a', '/realms/a/']) {
      const issuer = server.issuer + path
      server.discovery = { body: { issuer, jwks_uri: server.jwksUri } }
      const verifier = verifierFor(server, { issuer })
      expect(await verifier.verify(await tokenOf({ issuer }, key))).toMatchObject({ ok: true })
      expect(server.requested.at(-2)).toBe(`/realms/a${DISCOVERY}`)
    }
  })

  test.each<[string, (issuer: IssuerServer) => void]>([
    [
      'discovery names another issuer',
      (it) => (it.discovery = { body: { issuer: 'https://x', jwks_uri: it.jwksUri } }),
    ],
    [
      'discovery names the issuer with an extra slash',
      (it) => (it.discovery = { body: { issuer: `${it.issuer}/`, jwks_uri: it.jwksUri } }),
    ],
    ['discovery has no jwks_uri', (it) => (it.discovery = { body: { issuer: it.issuer } })],
    [
      'jwks_uri is a file URL',
      (it) => (it.discovery = { body: { issuer: it.issuer, jwks_uri: 'file:///etc/passwd' } }),
    ],
    ['discovery is not found', (it) => (it.discovery = { status: 404, body: {} })],
    [
      'discovery redirects',
      (it) => (it.discovery = { status: 302, headers: { location: `${it.issuer}/x` }, body: '' }),
    ],
    ['discovery is not JSON', (it) => (it.discovery = { body: '<html>' })],
    ['discovery is a list', (it) => (it.discovery = { body: [] })],
    [
      'discovery is far too large',
      (it) => (it.discovery = { body: { issuer: it.issuer, jwks_uri: it.jwksUri, x: 'x'.repeat(300_000) } }),
    ],
    ['the keys redirect', (it) => (it.jwks = { status: 302, headers: { location: '/moved' }, body: '' })],
    ['the keys are not a JWK Set', (it) => (it.jwks = { body: { keys: 'none' } })],
    ['the issuer fails', (it) => (it.jwks = { status: 500, body: {} })],
  ])('%s: no token is verified, and the cause has the reason', async (_name, change) => {
    await using issuer = await openIssuer(jwksOf(key))
    change(issuer)
    const result = await verifierFor(issuer).verify(await tokenOf(issuer, key))
    expect(result).toMatchObject({ ...unavailable, cause: { cause: expect.any(Error) } })
  })

  test('an http URL is refused, also as the jwks_uri in a discovery document', async () => {
    await using issuer = await openIssuer(jwksOf(key))
    expect(() => verifierFor(issuer, { allowInsecureHttp: false })).toThrow(/https/)
    const overTls: typeof fetch = async () =>
      Response.json({ issuer: 'https://idp.example', jwks_uri: issuer.jwksUri })
    const verifier = verifierFor(issuer, {
      issuer: 'https://idp.example',
      allowInsecureHttp: false,
      fetch: overTls,
    })
    expect(await verifier.verify(await tokenOf({ issuer: 'https://idp.example' }, key))).toMatchObject({
      ...unavailable,
      cause: { cause: { message: expect.stringMatching(/not an https URL/) } },
    })
    expect(issuer.requested).toEqual([])
  })

  test('a token that is malformed, mistyped or too long causes no fetch', async () => {
    await using issuer = await openIssuer(jwksOf(key))
    const verifier = verifierFor(issuer)
    for (const token of ['a.b.c', await key.sign(undefined, { typ: 'at+jwt' }), 'x'.repeat(20_000)])
      expect(await verifier.verify(token)).toMatchObject({ error: 'invalid_request' })
    expect(issuer.requested).toEqual([])
  })
})

describe('rotation', () => {
  test('an unknown kid fetches the keys again, once', async () => {
    await using issuer = await openIssuer(jwksOf(key))
    const verifier = verifierFor(issuer)
    expect(await verifier.verify(await tokenOf(issuer, key))).toMatchObject({ ok: true })
    issuer.jwks = { body: jwksOf(key, next) }
    nowMs += 30_000
    const token = await tokenOf(issuer, next)
    const all = await Promise.all(Array.from({ length: 20 }, () => verifier.verify(token)))
    expect(all.filter(({ ok }) => ok)).toHaveLength(20)
    expect(issuer.requested.filter((path) => path === '/keys')).toHaveLength(2)
  })

  test('invented kids cause at most one fetch per 30 seconds', async () => {
    await using issuer = await openIssuer(jwksOf(key))
    const verifier = verifierFor(issuer)
    const forged = await tokenOf(issuer, next)
    for (let n = 0; n < 20; n++) expect(await verifier.verify(forged)).toMatchObject(unknown)
    expect(issuer.requested).toHaveLength(2)
    nowMs += 29_999
    await verifier.verify(forged)
    expect(issuer.requested).toHaveLength(2)
    nowMs += 1
    for (let n = 0; n < 20; n++) expect(await verifier.verify(forged)).toMatchObject(unknown)
    expect(issuer.requested).toHaveLength(4)
  })

  test('a key that the issuer withdrew is accepted for at most ten minutes', async () => {
    await using issuer = await openIssuer(jwksOf(key, next))
    const verifier = verifierFor(issuer)
    await verifier.verify(await tokenOf(issuer, key))
    issuer.jwks = { body: jwksOf(next) }
    nowMs += 10 * 60_000 - 1
    expect(await verifier.verify(await tokenOf(issuer, key))).toMatchObject({ ok: true })
    nowMs += 1
    expect(await verifier.verify(await tokenOf(issuer, key))).toMatchObject(unknown)
  })
})

describe('an unavailable issuer', () => {
  test('is asked again after a second, not for every token, while no key is known', async () => {
    await using issuer = await openIssuer(jwksOf(key))
    const { jwks } = issuer
    issuer.jwks = { status: 503, body: {} }
    const verifier = verifierFor(issuer)
    const token = await tokenOf(issuer, key)
    for (let n = 0; n < 20; n++) expect(await verifier.verify(token)).toMatchObject(unavailable)
    expect(issuer.requested).toHaveLength(2)
    issuer.jwks = jwks
    nowMs += 1_000
    expect(await verifier.verify(token)).toMatchObject({ ok: true })
  })

  test('leaves its known keys usable for a day, and onError gets the failure', async () => {
    await using issuer = await openIssuer(jwksOf(key))
    const verifier = verifierFor(issuer)
    await verifier.verify(await tokenOf(issuer, key))
    const { jwks } = issuer
    issuer.jwks = { status: 503, body: {} }
    nowMs += 10 * 60_000
    for (let n = 0; n < 20; n++)
      expect(await verifier.verify(await tokenOf(issuer, key))).toMatchObject({ ok: true })
    expect(issuer.requested).toHaveLength(4)
    expect(errors).toEqual([expect.objectContaining({ message: expect.stringContaining('503') })])
    // A new key might verify this token, so it is not called invalid.
    expect(await verifier.verify(await tokenOf(issuer, next))).toMatchObject(unavailable)
    nowMs += 24 * 3_600_000
    expect(await verifier.verify(await tokenOf(issuer, key))).toMatchObject(unavailable)
    nowMs += 30_000
    issuer.jwks = jwks
    expect(await verifier.verify(await tokenOf(issuer, key))).toMatchObject({ ok: true })
  })

  test('that never answers causes a timeout', async () => {
    await using issuer = await openIssuer(jwksOf(key))
    const released = Promise.withResolvers<void>()
    issuer.jwks = { ...issuer.jwks, after: released.promise }
    const started = performance.now()
    expect(await verifierFor(issuer).verify(await tokenOf(issuer, key))).toMatchObject(unavailable)
    expect(performance.now() - started).toBeLessThan(8_000)
    released.resolve()
  })
})
