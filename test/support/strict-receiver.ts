import { createHmac, createPublicKey, type JsonWebKeyInput, verify } from 'node:crypto'
import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { LOGOUT_EVENT_MEMBER } from '@curfew/channels'
import type { Certificate } from './certificates.ts'

// A relying party that makes all checks of Back-Channel Logout 2.6, and stricter ones, except for one fault at a time. It is
// written by hand, because a library cannot be made to skip checks.

/** A check that it omits, or another deviation. */
export type ReceiverFault =
  | Check
  | 'takes alg none'
  | 'takes HMAC with the public PEM'
  | 'takes HMAC with the public JWK'
  | 'demands typ'
  | 'demands typ JWT'
  | 'demands no typ'
  | 'demands typ JWT and sid alone'
  | 'demands aud as a text'
  | 'refuses unknown claims'
  | 'refuses unknown fields'
  | 'refuses charset'
  | 'needs sid'
  | 'needs sub'
  | 'crashes without sid'
  | 'refuses both'
  | 'knows no session'
  | 'answers unknown_session'
  | 'answers unknown_session before it verifies'
  | 'takes two tokens'
  | 'takes GET'
  | 'takes JSON'
  | 'answers without a token'
  | 'hangs on a large body'
  | 'cuts a large body'
  | 'answers 204'
  | 'answers 202'
  | 'answers 401 to forgeries'
  | 'answers 500 to forgeries'
  | 'answers 200 always'
  | 'answers 302 always'
  | 'answers 403 always'
  | 'answers 503 always'
  | 'answers 400 always'
  | 'answers without Cache-Control'

type Json = Readonly<Record<string, unknown>>

interface Token {
  readonly header: Json
  readonly claims: Json
}

export interface Receiver extends AsyncDisposable {
  readonly uri: string
  /** The method and the token of each request. */
  readonly requests: readonly { readonly method: string; readonly token: Token | null }[]
  fault: ReceiverFault | null
  /** The `sid` or `sub` of every session that it ended. Must stay free of real users. */
  readonly loggedOut: readonly unknown[]
}

interface Expected {
  readonly iss: string
  readonly aud: string
  /** The issuer's published keys; ES256. */
  readonly jwks: () => Promise<{ readonly keys: readonly ({ readonly kid: string } & Json)[] }>
}

const SKEW_S = 60
const UNKNOWN_SESSION = 'unknown_session'
const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** The checks. Each returns the fault, or null. */
const CHECKS = {
  crit: ({ header }) => ('crit' in header ? 'crit is not understood' : null),
  iss: ({ claims }, { iss }) => (claims.iss === iss ? null : 'iss is another'),
  aud: ({ claims }, { aud }) => ([claims.aud].flat().includes(aud) ? null : 'aud is another'),
  exp: ({ claims: { exp } }, { nowS }) =>
    typeof exp === 'number' && exp < nowS - SKEW_S ? 'exp is in the past' : null,
  'exp missing': ({ claims: { exp } }) => (typeof exp === 'number' ? null : 'exp is missing'),
  'iat missing': ({ claims: { iat } }) => (typeof iat === 'number' ? null : 'iat is missing'),
  'iat future': ({ claims: { iat } }, { nowS }) =>
    typeof iat === 'number' && iat > nowS + SKEW_S ? 'iat is in the future' : null,
  'jti missing': ({ claims: { jti } }) => (typeof jti === 'string' ? null : 'jti is missing'),
  'events missing': ({ claims: { events } }) => (events === undefined ? 'events is missing' : null),
  'events object': ({ claims: { events } }) => (Array.isArray(events) ? 'events is not an object' : null),
  'events member': ({ claims: { events } }) =>
    isObject(events) && !isObject(events[LOGOUT_EVENT_MEMBER]) ? 'events names another event' : null,
  nonce: ({ claims }) => ('nonce' in claims ? 'nonce is present' : null),
  subject: ({ claims: { sub, sid } }) =>
    sub === undefined && sid === undefined ? 'sub and sid are missing' : null,
  replay: ({ claims: { jti } }, { seen }) => {
    if (seen.has(jti)) return 'jti was seen before'
    seen.add(jti)
    return null
  },
} satisfies Readonly<
  Record<
    string,
    (token: Token, expected: { iss: string; aud: string; nowS: number; seen: Set<unknown> }) => string | null
  >
>
type Check = keyof typeof CHECKS | 'signature'

/** Opens a receiver on a free port of loopback. */
export async function openReceiver(certificate: Certificate, expected: Expected): Promise<Receiver> {
  const seen = new Set<unknown>()
  const requests: { method: string; token: Token | null }[] = []
  const loggedOut: unknown[] = []
  const receiver = { fault: null as ReceiverFault | null, requests, loggedOut }
  const broken = (fault: ReceiverFault) => receiver.fault === fault

  async function signatureFault(token: string, { header }: Token): Promise<string | null> {
    const { keys } = await expected.jwks()
    const [first] = keys
    const input = token.slice(0, token.lastIndexOf('.'))
    const signature = Buffer.from(token.slice(input.length + 1), 'base64url')
    const hmac = (secret: string) => createHmac('sha256', secret).update(input).digest().equals(signature)
    if (header.alg === 'none' && broken('takes alg none')) return null
    if (header.alg === 'HS256' && first !== undefined) {
      const { kid: _kid, alg: _alg, use: _use, ...jwk } = first
      const key = createPublicKey({ key: first as JsonWebKeyInput['key'], format: 'jwk' })
      const pem = key.export({ type: 'spki', format: 'pem' }).toString()
      if (broken('takes HMAC with the public PEM') && hmac(pem)) return null
      const texts = [JSON.stringify(first), JSON.stringify(jwk)]
      if (broken('takes HMAC with the public JWK') && texts.some(hmac)) return null
    }
    if (header.alg !== 'ES256') return 'alg is not ES256'
    if (broken('signature')) return null
    const published = keys.find(({ kid }) => kid === header.kid)
    if (published === undefined) return 'kid is unknown'
    const key = createPublicKey({ key: published as JsonWebKeyInput['key'], format: 'jwk' })
    const good = verify('sha256', Buffer.from(input), { key, dsaEncoding: 'ieee-p1363' }, signature)
    return good ? null : 'the signature is not good'
  }

  async function faultOf(raw: string): Promise<string | null> {
    const token = read(raw)
    if (token === null) return 'logout_token is not a token'
    const { header, claims } = token
    if (broken('answers unknown_session before it verifies')) return UNKNOWN_SESSION
    const badSignature = await signatureFault(raw, token)
    if (badSignature !== null) return badSignature
    if (broken('demands typ') && header.typ !== 'logout+jwt') return 'typ is not logout+jwt'
    if (broken('demands typ JWT') && header.typ !== 'JWT') return 'typ is not JWT'
    if (broken('demands no typ') && 'typ' in header) return 'typ is not expected'
    if (broken('demands typ JWT and sid alone') && (header.typ !== 'JWT' || claims.sub !== undefined))
      return 'typ or sub is not expected'
    const context = { iss: expected.iss, aud: expected.aud, nowS: Date.now() / 1_000, seen }
    for (const [name, check] of Object.entries(CHECKS)) {
      const fault = broken(name as Check) ? null : check(token, context)
      if (fault !== null) return fault
    }
    if (broken('demands aud as a text') && Array.isArray(claims.aud)) return 'aud is a list'
    if (broken('refuses unknown claims') && 'txn' in claims) return 'txn is unknown'
    if (broken('needs sid') && claims.sid === undefined) return 'sid is missing'
    if (broken('needs sub') && claims.sub === undefined) return 'sub is missing'
    if (broken('refuses both') && claims.sid !== undefined && claims.sub !== undefined)
      return 'both are present'
    if (broken('crashes without sid') && claims.sid === undefined) return 'crash'
    if (broken('answers unknown_session')) return UNKNOWN_SESSION
    if (broken('knows no session')) return `no session ${claims.sid ?? claims.sub}`
    loggedOut.push(claims.sid ?? claims.sub)
    return null
  }

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const headers = broken('answers without Cache-Control') ? {} : { 'cache-control': 'no-store' }
    const end = (status: number, error?: string) => {
      response.writeHead(status, { ...headers, ...(status === 302 && { location: '/login' }) })
      response.end(
        error === undefined
          ? ''
          : JSON.stringify({
              error: error === UNKNOWN_SESSION ? UNKNOWN_SESSION : 'invalid_request',
              error_description: error,
            }),
      )
    }
    const body = await bodyOf(request, receiver.fault)
    if (body === null) return end(413)
    const always = /^answers (\d+) always$/.exec(receiver.fault ?? '')
    const { pathname, searchParams } = new URL(request.url ?? '', 'https://rp.example')
    const type = request.headers['content-type'] ?? ''
    const isForm = broken('refuses charset')
      ? type === 'application/x-www-form-urlencoded'
      : type.startsWith('application/x-www-form-urlencoded')
    const isJson = type === 'application/json' && broken('takes JSON')
    const form = new URLSearchParams(isForm ? body : '')
    const fields = request.method === 'GET' ? searchParams : form
    const raw = isJson ? String(Object(JSON.parse(body)).logout_token) : fields.get('logout_token')
    requests.push({ method: request.method ?? '', token: raw === null ? null : read(raw) })
    if (always !== null) return end(Number(always[1]), 'this endpoint always answers so')
    if (pathname !== '/backchannel-logout') return end(404)
    if (request.method !== 'POST' && !broken('takes GET')) return end(405)
    if (request.method === 'POST' && !isForm && !isJson) return end(415)
    if (raw === null)
      return broken('answers without a token') ? end(200) : end(400, 'logout_token is missing')
    if (fields.getAll('logout_token').length > 1 && !broken('takes two tokens'))
      return end(400, 'logout_token comes twice')
    if (broken('refuses unknown fields') && fields.size > 1) return end(400, 'a field is unknown')
    const fault = await faultOf(raw)
    if (fault === null) return end(broken('answers 204') ? 204 : broken('answers 202') ? 202 : 200)
    if (fault === 'crash' || broken('answers 500 to forgeries')) return end(500)
    return end(broken('answers 401 to forgeries') ? 401 : 400, fault)
  }

  const server = createServer(certificate, (request, response) => {
    // Either end may have closed the connection.
    answer(request, response).catch(() => response.destroy())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return Object.assign(receiver, {
    uri: `https://127.0.0.1:${port}/backchannel-logout`,
    async [Symbol.asyncDispose]() {
      server.close()
      server.closeAllConnections()
      await once(server, 'close')
    },
  })
}

const BODY_BYTES_MAX = 64 * 1024

/** Null if the body is too large. With a fault, a large body hangs or resets the connection. */
async function bodyOf(request: IncomingMessage, fault: ReceiverFault | null): Promise<string | null> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of request) {
    bytes += (chunk as Buffer).length
    if (bytes <= BODY_BYTES_MAX) chunks.push(chunk as Buffer)
    else if (fault === 'hangs on a large body') await once(request, 'close')
    else if (fault === 'cuts a large body') request.socket.resetAndDestroy()
  }
  return bytes > BODY_BYTES_MAX ? null : Buffer.concat(chunks).toString('utf8')
}

function read(raw: string): Token | null {
  try {
    const [header, claims] = raw.split('.').map((part) => Buffer.from(part, 'base64url').toString('utf8'))
    return { header: JSON.parse(header ?? '') as Json, claims: JSON.parse(claims ?? '') as Json }
  } catch {
    return null
  }
}
