import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { exportJWK, generateKeyPair, type JSONWebKeySet, type JWK, SignJWT } from 'jose'
import { LOGOUT_EVENT } from './claims.ts'

// An issuer for the tests: it signs any claims, and serves discovery and keys on a real port.

export const ISSUER = 'https://idp.example'
export const CLIENT_ID = 'web-shop'
export const NOW = new Date('2026-11-21T09:00:00Z')
export const NOW_S = NOW.getTime() / 1_000

/** The claims of a good token, with changes; undefined removes a claim. */
export function claimsWith(change: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    iss: ISSUER,
    aud: CLIENT_ID,
    iat: NOW_S,
    exp: NOW_S + 120,
    jti: 'jti-1',
    sub: 'alice',
    sid: 'session-1',
    events: { [LOGOUT_EVENT]: {} },
    ...change,
  }
}

export interface SigningKey {
  readonly publicJwk: JWK
  /** Signs any claims. An undefined header member is left out. */
  sign(claims?: Record<string, unknown>, header?: Record<string, unknown>): Promise<string>
}

export async function createKey(kid: string, alg = 'ES256'): Promise<SigningKey> {
  const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true })
  return {
    publicJwk: { ...(await exportJWK(publicKey)), kid, alg, use: 'sig' },
    sign: (claims = claimsWith(), header = {}) => {
      const whole = { alg, kid, typ: 'logout+jwt', ...header }
      return new SignJWT(JSON.parse(JSON.stringify(claims)))
        .setProtectedHeader(JSON.parse(JSON.stringify(whole)))
        .sign(privateKey)
    },
  }
}

export function jwksOf(...keys: readonly SigningKey[]): JSONWebKeySet {
  return { keys: keys.map(({ publicJwk }) => publicJwk) }
}

export interface Answer {
  readonly status?: number
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: unknown
  /** The answer waits for this promise. */
  readonly after?: Promise<void>
}

export interface IssuerServer extends AsyncDisposable {
  /** The issuer identifier, with plain http on loopback. */
  readonly issuer: string
  readonly jwksUri: string
  /** The paths of all requests, in order. */
  readonly requested: readonly string[]
  /**
   * The answers for discovery and keys, which a test may replace. A string body is sent unchanged. `/moved` serves the first
   * keys, too.
   */
  discovery: Answer
  jwks: Answer
}

export async function openIssuer(keys: JSONWebKeySet): Promise<IssuerServer> {
  const requested: string[] = []
  const server = createServer(async (request, response) => {
    const path = request.url ?? ''
    requested.push(path)
    const answer = path === '/keys' ? issuer.jwks : path === '/moved' ? { body: keys } : issuer.discovery
    const { status = 200, headers = {}, body, after } = answer
    await after
    response.writeHead(status, { 'content-type': 'application/json', ...headers })
    response.end(typeof body === 'string' ? body : JSON.stringify(body))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const issuer: IssuerServer = {
    issuer: base,
    jwksUri: `${base}/keys`,
    requested,
    discovery: { body: { issuer: base, jwks_uri: `${base}/keys` } },
    jwks: { body: keys },
    async [Symbol.asyncDispose]() {
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
  return issuer
}

/** A logout request with form fields, or with any other body. */
export function logoutRequest(
  body: string | Readonly<Record<string, string>>,
  { type = 'application/x-www-form-urlencoded', headers = {} }: { type?: string; headers?: object } = {},
): Request {
  return new Request('https://shop.example/backchannel-logout', {
    method: 'POST',
    headers: { 'content-type': type, ...headers },
    body: typeof body === 'string' ? body : new URLSearchParams(body).toString(),
  })
}
