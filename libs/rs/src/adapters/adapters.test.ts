import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { inspect } from 'node:util'
import fastifyJwt from '@fastify/jwt'
import express, { type Express } from 'express'
import { expressjwt } from 'express-jwt'
import { auth } from 'express-oauth2-jwt-bearer'
import fastify from 'fastify'
import { getIronSession, nodeCookies } from 'iron-session'
import {
  createLocalJWKSet,
  createRemoteJWKSet,
  exportJWK,
  exportPKCS8,
  exportSPKI,
  generateKeyPair,
  SignJWT,
} from 'jose'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { ISS, KEY, openFeed, type TestFeed } from '../feed.fixture.ts'
import { createRevocations, DeniedError, type Revocations, type Staleness } from '../index.ts'
import { expressJwtIsRevoked } from './express-jwt.ts'
import { notRevoked } from './express-oauth2-jwt-bearer.ts'
import { fastifyJwtTrusted } from './fastify-jwt.ts'
import { createTokenVerifier } from './jose.ts'
import { sessionGuard } from './session.ts'

// Goal: each adapter denies what a logout ended, with the challenge of RFC 6750 (CUT-06), and lets all else pass.
// Method: the real libraries on real ports, with tokens of a real key and a feed over HTTP.

const AUDIENCE = 'https://api.example'
const INVALID = /^Bearer error="invalid_token"/
let privateKey: CryptoKey
let publicKey: CryptoKey
let feed: TestFeed
let revocations: Revocations
/** The policy of the route, the answer of the authorization server, and the tokens that it was asked about. */
let whenStale: Staleness
let active: boolean | Error
let introspected: string[]

const opened = new AsyncDisposableStack()
/** The URL of a protected route of each adapter. */
const urls: Record<string, string> = {}
afterAll(() => opened.disposeAsync())
beforeEach(() => {
  whenStale = 'deny'
  active = true
  introspected = []
})

async function introspect(token: string): Promise<boolean> {
  introspected.push(token)
  if (active instanceof Error) throw active
  return active
}

beforeAll(async () => {
  const pair = await generateKeyPair('RS256', { extractable: true })
  privateKey = pair.privateKey
  publicKey = pair.publicKey
  feed = opened.use(await openFeed())
  revocations = createRevocations({
    ...{ feed: feed.url, issuer: ISS, key: KEY, maxStalenessMs: 2_000, onEvent: () => undefined },
  })
  opened.defer(() => revocations.stop())
  revocations.start()
  await revocations.ready()
  const guard = { revocations, whenStale: () => whenStale, introspect }
  const pem = await exportSPKI(publicKey)

  const one = express()
  one.use(expressjwt({ secret: pem, algorithms: ['RS256'], isRevoked: expressJwtIsRevoked(guard) }))
  urls['express-jwt'] = await listen(one)

  const two = express()
  const verified = { issuer: ISS, audience: AUDIENCE, tokenSigningAlg: 'RS256', publicKey: pem }
  two.use(auth(verified), notRevoked(guard))
  urls['express-oauth2-jwt-bearer'] = await listen(two)

  const app = fastify()
  await app.register(fastifyJwt, {
    secret: { public: pem, private: await exportPKCS8(privateKey) },
    verify: { algorithms: ['RS256'] },
    trusted: fastifyJwtTrusted(guard),
  })
  app.get('/', { onRequest: async (request) => void (await request.jwtVerify()) }, async () => 'orders')
  urls['@fastify/jwt'] = await app.listen({ port: 0, host: '127.0.0.1' })
  opened.defer(() => app.close())

  const verify = createTokenVerifier({
    ...{ revocations, introspect, key: createLocalJWKSet({ keys: [await exportJWK(publicKey)] }) },
    verify: { issuer: ISS, audience: AUDIENCE },
  })
  const three = express()
  three.use(async (request, _response, next) => {
    await verify(request.headers.authorization?.slice('Bearer '.length) ?? '', whenStale)
    next()
  })
  urls.jose = await listen(three)
})

async function listen(app: Express): Promise<string> {
  app.get('/', (_request, response) => void response.send('orders'))
  // Express prints errors unless it runs in a test.
  app.set('env', 'test')
  const server = app.listen(0, '127.0.0.1')
  await once(server, 'listening')
  opened.defer(async () => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

const sign = (claims: object) =>
  new SignJWT({ iss: ISS, aud: AUDIENCE, ...claims } as never)
    .setProtectedHeader({ alg: 'RS256', typ: 'at+jwt' })
    .setExpirationTime('1h')
    .sign(privateKey)
const nowS = () => Math.floor(Date.now() / 1_000)
const get = (library: string, token: string) =>
  fetch(urls[library] ?? '', { headers: { authorization: `Bearer ${token}` } })

/** Runs `check` while the feed is silent for longer than allowed. */
async function cutOff(check: () => Promise<void>): Promise<void> {
  feed.intercept = () => ({ status: 503 })
  try {
    await expect.poll(() => revocations.status().stale, { timeout: 10_000 }).toBe(true)
    await check()
  } finally {
    feed.intercept = null
    await expect.poll(() => revocations.status().stale, { timeout: 10_000 }).toBe(false)
  }
}

describe.each(['express-jwt', 'express-oauth2-jwt-bearer', '@fastify/jwt', 'jose'])('%s', (library) => {
  test('denies a token after the logout of its session, and passes the tokens of others', async () => {
    const sid = crypto.randomUUID()
    const [ended, other] = await Promise.all([
      sign({ sub: 'alice', sid, iat: nowS() }),
      sign({ sub: 'alice', sid: crypto.randomUUID(), iat: nowS() }),
    ])
    expect((await get(library, ended)).status).toBe(200)
    feed.logout('sid', sid)
    await expect.poll(async () => (await get(library, ended)).status).toBe(401)
    const denied = await get(library, ended)
    expect(denied.headers.get('www-authenticate')).toMatch(INVALID)
    expect(denied.headers.get('www-authenticate')).toContain('ended by a logout')
    expect((await get(library, other)).status).toBe(200)
  })

  test('denies a token after the logout of its subject, and passes one of a later login', async () => {
    const sub = crypto.randomUUID()
    feed.logout('sub', sub, nowS() - 5)
    const old = await sign({ sub, iat: nowS() - 5 })
    await expect.poll(async () => (await get(library, old)).status).toBe(401)
    expect((await get(library, await sign({ sub, iat: nowS() - 4 }))).status).toBe(200)
  })

  test('denies a token of another issuer although its signature is good', async () => {
    const answer = await get(library, await sign({ iss: 'https://other.example', sub: 'alice', iat: nowS() }))
    expect(answer.status).toBe(401)
  })

  test('denies, allows or asks while logouts may be missing, as the route says', async () => {
    const token = await sign({ sub: 'alice', iat: nowS() })
    const sid = crypto.randomUUID()
    const revoked = await sign({ sub: 'alice', sid, iat: nowS() })
    feed.logout('sid', sid)
    await expect.poll(async () => (await get(library, revoked)).status).toBe(401)
    await cutOff(async () => {
      const denied = await get(library, token)
      expect([denied.status, denied.headers.get('www-authenticate')]).toEqual([503, null])
      whenStale = 'allow'
      expect((await get(library, token)).status).toBe(200)
      expect((await get(library, revoked)).status).toBe(401)
      whenStale = 'introspect'
      expect((await get(library, token)).status).toBe(200)
      expect(introspected).toEqual([token])
      active = false
      const inactive = await get(library, token)
      expect([inactive.status, inactive.headers.get('www-authenticate')]).toEqual([
        401,
        expect.stringMatching(INVALID),
      ])
      active = new Error('the authorization server is unavailable')
      expect((await get(library, token)).status).toBe(503)
      expect((await get(library, revoked)).status).toBe(401)
    })
    expect((await get(library, token)).status).toBe(200)
  })
})

describe('jose', () => {
  test('does not blame the token if the keys cannot be read', async () => {
    const key = createRemoteJWKSet(new URL(`${feed.url}/no-keys`))
    const verify = createTokenVerifier({ revocations, key, verify: { issuer: ISS, audience: AUDIENCE } })
    const error = await verify(await sign({ sub: 'alice', iat: nowS() })).catch((reason) => reason)
    expect(error).toBeInstanceOf(Error)
    expect(error).not.toBeInstanceOf(DeniedError)
  })

  test('rejects with an error that names the reason, and neither the token nor its subject', async () => {
    const sub = `alice-${crypto.randomUUID()}`
    const key = createLocalJWKSet({ keys: [await exportJWK(publicKey)] })
    const verify = createTokenVerifier({ revocations, key, verify: { issuer: ISS, audience: AUDIENCE } })
    const token = await sign({ sub, iat: nowS() })
    expect(await verify(token)).toMatchObject({ sub })
    feed.logout('sub', sub, nowS() + 1)
    await expect.poll(() => verify(token).catch((error) => error)).toBeInstanceOf(DeniedError)
    const error: DeniedError = await verify(token).catch((reason) => reason)
    expect(error).toMatchObject({ reason: 'revoked', status: 401, code: 'invalid_token' })
    expect(inspect(error, { depth: 9 })).not.toContain(sub)
    const wrong: DeniedError = await verify(await sign({ sub, iat: nowS(), aud: 'other' })).catch(
      (reason) => reason,
    )
    expect(wrong).toMatchObject({ reason: 'invalid', cause: { message: expect.stringContaining('aud') } })
    expect(inspect(wrong, { depth: 9 })).not.toContain(sub)
  })
})

describe('a sealed cookie', () => {
  let url: string
  const password = 'a password of at least thirty-two characters'
  interface Login {
    login?: { iss: string; sub: string; sid: string; iat: number }
  }

  beforeAll(async () => {
    const app = express()
    const open = (request: express.Request, response: express.Response) =>
      getIronSession<Login>(nodeCookies(request, response), { password, cookieName: 'shop' })
    app.post('/login/:sid', async (request, response) => {
      const session = await open(request, response)
      session.login = { iss: ISS, sub: 'alice', sid: request.params.sid, iat: nowS() }
      await session.save()
      response.send('welcome')
    })
    app.use(
      sessionGuard<express.Request, express.Response>({
        revocations,
        whenStale: () => whenStale,
        introspect: async ({ sid }) => introspect(String(sid)),
        claimsOf: async (request, response) => (await open(request, response)).login ?? null,
        onEnded: async (request, response) => {
          ;(await open(request, response)).destroy()
          response.redirect('/login')
        },
      }),
    )
    app.get('/whoami', async (request, response) => {
      response.send((await open(request, response)).login?.sub ?? 'a guest')
    })
    url = await listen(app)
  })

  const visit = (cookie: string) => fetch(`${url}/whoami`, { headers: { cookie }, redirect: 'manual' })
  async function login(sid: string): Promise<string> {
    const response = await fetch(`${url}/login/${sid}`, { method: 'POST' })
    return response.headers.getSetCookie()[0]?.split(';')[0] ?? ''
  }

  test('ends with the logout of its session, is deleted, and no other one is', async () => {
    const sid = crypto.randomUUID()
    const [cookie, other] = [await login(sid), await login(crypto.randomUUID())]
    expect(await (await visit(cookie)).text()).toBe('alice')
    feed.logout('sid', sid)
    await expect.poll(async () => (await visit(cookie)).status).toBe(302)
    const ended = await visit(cookie)
    expect(ended.headers.getSetCookie()[0]).toMatch(/^shop=; Max-Age=0/i)
    expect(await (await visit(other)).text()).toBe('alice')
    expect(await (await visit('')).text()).toBe('a guest')
  })

  test('is decided by the policy of the route while logouts may be missing', async () => {
    const cookie = await login('s9')
    await cutOff(async () => {
      expect((await visit(cookie)).status).toBe(302)
      whenStale = 'allow'
      expect((await visit(cookie)).status).toBe(200)
      whenStale = 'introspect'
      expect((await visit(cookie)).status).toBe(200)
      expect(introspected).toEqual(['s9'])
      active = false
      expect((await visit(cookie)).status).toBe(302)
    })
  })
})
