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

// Goal: keys come from the issuer and nobody else, follow its rotation, outlive its absence, and nobody without a signature
// can make us ask much. Method: a real HTTP server for the issuer that counts, and a clock that is set by hand.

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
const unavailable = { ok: false, error: 'logout_failed', description: 'the keys of the issuer cannot be had' }
const unknown = { ok: false, error: 'invalid_request', description: 'no key of the issuer fits kid and alg' }

describe('where keys come from', () => {
  test('discovery and keys are fetched once, however many tokens come at the same time', async () => {
    await using issuer = await openIssuer(jwksOf(key))
    const verifier = verifierFor(issuer)
    expect(issuer.asked).toEqual([])
    const token = await tokenOf(issuer, key)
    const all = await Promise.all(Array.from({ length: 20 }, () => verifier.verify(token)))
    expect(all.filter(({ ok }) => ok)).toHaveLength(20)
    expect(issuer.asked).toEqual([DISCOVERY, '/keys'])
  })

  test('with a jwksUri discovery is left out', async () => {
    await using issuer = await openIssuer(jwksOf(key))
    const verifier = verifierFor(issuer, { issuer: 'urn:idp', jwksUri: issuer.jwksUri })
    expect(await verifier.verify(await tokenOf({ issuer: 'urn:idp' }, key))).toMatchObject({ ok: true })
    expect(issuer.asked).toEqual(['/keys'])
  })

  test('an issuer with a path, or a slash at its end, has discovery under it', async () => {
    await using server = await openIssuer(jwksOf(key))
    for (const path of ['/realms/a', '/realms/a/']) {
      const issuer = server.issuer + path
      server.discovery = { body: { issuer, jwks_uri: server.jwksUri } }
      const verifier = verifierFor(server, { issuer })
      expect(await verifier.verify(await tokenOf({ issuer }, key))).toMatchObject({ ok: true })
      expect(server.asked.at(-2)).toBe(`/realms/a${DISCOVERY}`)
    }
  })

  test.each<[string, (issuer: IssuerServer) => void]>([
    [
      'discovery names another issuer',
      (it) => (it.discovery = { body: { issuer: 'https://x', jwks_uri: it.jwksUri } }),
    ],
    [
      'discovery differs in a slash',
      (it) => (it.discovery = { body: { issuer: `${it.issuer}/`, jwks_uri: it.jwksUri } }),
    ],
    ['discovery has no jwks_uri', (it) => (it.discovery = { body: { issuer: it.issuer } })],
    [
      'jwks_uri is no web address',
      (it) => (it.discovery = { body: { issuer: it.issuer, jwks_uri: 'file:///etc/passwd' } }),
    ],
    ['discovery is not found', (it) => (it.discovery = { status: 404, body: {} })],
    [
      'discovery leads elsewhere',
      (it) => (it.discovery = { status: 302, headers: { location: `${it.issuer}/x` }, body: '' }),
    ],
    ['discovery is no JSON', (it) => (it.discovery = { body: '<html>' })],
    ['discovery is a list', (it) => (it.discovery = { body: [] })],
    [
      'discovery is far too large',
      (it) => (it.discovery = { body: { issuer: it.issuer, jwks_uri: it.jwksUri, x: 'x'.repeat(300_000) } }),
    ],
    [
      'the keys lead elsewhere',
      (it) => (it.jwks = { status: 302, headers: { location: '/moved' }, body: '' }),
    ],
    ['the keys are none', (it) => (it.jwks = { body: { keys: 'none' } })],
    ['the issuer fails', (it) => (it.jwks = { status: 500, body: {} })],
  ])('%s: nothing is verified, and why is in the cause', async (_name, change) => {
    await using issuer = await openIssuer(jwksOf(key))
    change(issuer)
    const result = await verifierFor(issuer).verify(await tokenOf(issuer, key))
    expect(result).toMatchObject({ ...unavailable, cause: { cause: expect.any(Error) } })
  })

  test('plain http is refused, in discovery too', async () => {
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
      cause: { cause: { message: expect.stringMatching(/not https/) } },
    })
    expect(issuer.asked).toEqual([])
  })

  test('a token that cannot be good makes nobody ask for keys', async () => {
    await using issuer = await openIssuer(jwksOf(key))
    const verifier = verifierFor(issuer)
    for (const token of ['a.b.c', await key.sign(undefined, { typ: 'at+jwt' }), 'x'.repeat(20_000)])
      expect(await verifier.verify(token)).toMatchObject({ error: 'invalid_request' })
    expect(issuer.asked).toEqual([])
  })
})

describe('rotation', () => {
  test('an unknown kid fetches the keys anew, once', async () => {
    await using issuer = await openIssuer(jwksOf(key))
    const verifier = verifierFor(issuer)
    expect(await verifier.verify(await tokenOf(issuer, key))).toMatchObject({ ok: true })
    issuer.jwks = { body: jwksOf(key, next) }
    nowMs += 30_000
    const token = await tokenOf(issuer, next)
    const all = await Promise.all(Array.from({ length: 20 }, () => verifier.verify(token)))
    expect(all.filter(({ ok }) => ok)).toHaveLength(20)
    expect(issuer.asked.filter((path) => path === '/keys')).toHaveLength(2)
  })

  test('made-up kids fetch at most every half minute', async () => {
    await using issuer = await openIssuer(jwksOf(key))
    const verifier = verifierFor(issuer)
    const forged = await tokenOf(issuer, next)
    for (let n = 0; n < 20; n++) expect(await verifier.verify(forged)).toMatchObject(unknown)
    expect(issuer.asked).toHaveLength(2)
    nowMs += 29_999
    await verifier.verify(forged)
    expect(issuer.asked).toHaveLength(2)
    nowMs += 1
    for (let n = 0; n < 20; n++) expect(await verifier.verify(forged)).toMatchObject(unknown)
    expect(issuer.asked).toHaveLength(4)
  })

  test('a key that the issuer withdrew is not taken for longer than ten minutes', async () => {
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

describe('an issuer that is away', () => {
  test('before any key is known: asked again after a second, not with every token', async () => {
    await using issuer = await openIssuer(jwksOf(key))
    const { jwks } = issuer
    issuer.jwks = { status: 503, body: {} }
    const verifier = verifierFor(issuer)
    const token = await tokenOf(issuer, key)
    for (let n = 0; n < 20; n++) expect(await verifier.verify(token)).toMatchObject(unavailable)
    expect(issuer.asked).toHaveLength(2)
    issuer.jwks = jwks
    nowMs += 1_000
    expect(await verifier.verify(token)).toMatchObject({ ok: true })
  })

  test('once keys are known, these serve for a day, and the failure is told', async () => {
    await using issuer = await openIssuer(jwksOf(key))
    const verifier = verifierFor(issuer)
    await verifier.verify(await tokenOf(issuer, key))
    const { jwks } = issuer
    issuer.jwks = { status: 503, body: {} }
    nowMs += 10 * 60_000
    for (let n = 0; n < 20; n++)
      expect(await verifier.verify(await tokenOf(issuer, key))).toMatchObject({ ok: true })
    expect(issuer.asked).toHaveLength(4)
    expect(errors).toEqual([expect.objectContaining({ message: expect.stringContaining('503') })])
    // What only a new key could verify is not called wrong.
    expect(await verifier.verify(await tokenOf(issuer, next))).toMatchObject(unavailable)
    nowMs += 24 * 3_600_000
    expect(await verifier.verify(await tokenOf(issuer, key))).toMatchObject(unavailable)
    nowMs += 30_000
    issuer.jwks = jwks
    expect(await verifier.verify(await tokenOf(issuer, key))).toMatchObject({ ok: true })
  })

  test('an issuer that never answers is given up', async () => {
    await using issuer = await openIssuer(jwksOf(key))
    const released = Promise.withResolvers<void>()
    issuer.jwks = { ...issuer.jwks, after: released.promise }
    const started = performance.now()
    expect(await verifierFor(issuer).verify(await tokenOf(issuer, key))).toMatchObject(unavailable)
    expect(performance.now() - started).toBeLessThan(8_000)
    released.resolve()
  })
})
