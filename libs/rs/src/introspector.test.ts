import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { notRevoked } from './adapters/express-oauth2-jwt-bearer.ts'
import { DeniedError, IntrospectionError, introspector, metricsText } from './index.ts'

// Goal: an authorization server is asked as RFC 7662 says, and anything but a clear yes is not one.
// Method: a real HTTP server, which answers as each test says.

let endpoint: string
let answer: { status?: number; headers?: Record<string, string>; body?: string } | null
let asked: { authorization: string | undefined; form: URLSearchParams }[]
const server = createServer(async (request, response) => {
  asked.push({ authorization: request.headers.authorization, form: new URLSearchParams(await text(request)) })
  if (answer === null) return
  const { status = 200, headers = {}, body = '' } = answer
  response.writeHead(status, headers).end(body)
})
beforeAll(async () => {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}/introspect`
})
beforeEach(() => {
  asked = []
})
afterAll(() => {
  server.closeAllConnections()
  server.close()
})
const open = (change = {}) =>
  introspector({ endpoint, clientId: 'orders api', clientSecret: 'a:b%', ...change })

test('the token and the form-encoded credentials are sent, and active is the answer', async () => {
  answer = { body: '{"active":true,"sub":"alice"}' }
  expect(await open()('t1')).toBe(true)
  answer = { body: '{"active":false}' }
  expect(await open()('t1')).toBe(false)
  const credentials = Buffer.from('orders+api:a%3Ab%25').toString('base64')
  expect(asked[0]?.authorization).toBe(`Basic ${credentials}`)
  expect(asked[0]?.form.toString()).toBe('token=t1&token_type_hint=access_token')
})

test('concurrent questions about one token are one request', async () => {
  answer = { body: '{"active":true}' }
  const introspect = open()
  expect(await Promise.all([introspect('t1'), introspect('t1'), introspect('t2')])).toEqual([
    true,
    true,
    true,
  ])
  expect(asked.length).toBe(2)
  await introspect('t1')
  expect(asked.length).toBe(3)
})

test.each([
  ['an error', { status: 401 }],
  ['a redirect', { status: 302, headers: { location: '/elsewhere' } }],
  ['no JSON', { body: '<html>' }],
  ['no active', { body: '{}' }],
  ['active as text', { body: '{"active":"true"}' }],
  ['a list', { body: '[true]' }],
  ['too much', { body: `{"active":true,"x":"${'x'.repeat(70_000)}"}` }],
  ['nothing in time', null],
])('%s is a typed error without the token or the secret', async (_, given) => {
  answer = given
  const error: Error = await open({ timeoutMs: 500 })('secret-token').catch((reason) => reason)
  expect(error).toBeInstanceOf(IntrospectionError)
  expect(error.message).toContain(endpoint)
  expect(error.message).not.toMatch(/secret-token|a:b/)
})

test.each([
  [{ endpoint: 'http://idp.example/introspect' }, /https/],
  [{ clientSecret: '' }, /clientSecret/],
])('the options %j are refused', (change, message) => {
  expect(() => open(change)).toThrow(message)
})

test('a policy that needs an introspection and has none is refused when the app starts', () => {
  const revocations = { decide: () => 'live' as const }
  expect(() => notRevoked({ revocations, whenStale: 'introspect' })).toThrow(/introspect/)
})

test('a request without a verified token is denied, unless tokens are optional', () => {
  const revocations = { decide: () => 'live' as const }
  const passed: unknown[] = []
  notRevoked({ revocations })({}, null, (error) => passed.push(error))
  notRevoked({ revocations, optional: true })({}, null, (error) => passed.push(error))
  expect(passed).toEqual([expect.any(DeniedError), undefined])
})

test('metrics escape the issuer, and leave out what is not known', () => {
  const status = {
    ...{
      seq: null,
      asOf: null,
      ageMs: null,
      stale: true,
      entries: 0,
      bytes: 20_480,
      failures: 1,
      lastError: 'x',
    },
    totals: { snapshots: 0, refreshes: 0, failures: 1 },
    decisions: { live: 1, revoked: 2, stale_denied: 3, introspect: 4, stale_allowed: 5 },
  }
  const lines = metricsText({ issuer: 'a"b', status: () => status }).split('\n')
  expect(lines).toContain('curfew_rs_stale{issuer="a\\"b"} 1')
  expect(lines).toContain('curfew_rs_decisions_total{issuer="a\\"b",decision="stale_allowed"} 5')
  expect(lines.filter((line) => line.includes('_seq') || line.includes('_age_'))).toEqual([])
})
