import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { ApiError, createClient } from './client.ts'

// Goal: a caller gets the answer, or an ApiError that says what to do, whoever it was that answered.
// Method: a real HTTP server that says what each test has it say, and remembers what it was asked.

interface Asked {
  readonly method: string | undefined
  readonly url: string | undefined
  readonly headers: IncomingMessage['headers']
  readonly body: string
}

let server: Server
let url: string
let asked: Asked[] = []
let answer: { status: number; headers?: Record<string, string>; body: string }

beforeAll(async () => {
  server = createServer(async (request, response) => {
    let body = ''
    for await (const chunk of request) body += chunk
    asked.push({ method: request.method, url: request.url, headers: request.headers, body })
    response.writeHead(answer.status, answer.headers).end(answer.body)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
})
afterAll(() => {
  server.close()
  server.closeAllConnections()
})
beforeEach(() => {
  asked = []
  answer = { status: 200, body: '{}' }
})

const client = () => createClient({ url, key: 'cfw_1' })
const refusalOf = async (call: Promise<unknown>): Promise<ApiError> => {
  const error = await call.then(
    () => null,
    (reason: unknown) => reason,
  )
  if (error instanceof ApiError) return error
  throw new Error('not refused by an ApiError', { cause: error })
}

describe('createClient', () => {
  test('posts an event as JSON under its key, and gives back the answer', async () => {
    answer = { status: 202, body: '{"id":"e1","status":"accepted"}' }
    const event = { iss: 'https://idp.example', sub: 'ü' }
    expect(await client().postLogoutEvent(event)).toEqual({ id: 'e1', status: 'accepted' })
    expect(asked).toMatchObject([
      {
        method: 'POST',
        url: '/v1/logout-events',
        headers: { authorization: 'Bearer cfw_1', 'content-type': 'application/json' },
      },
    ])
    expect(JSON.parse(asked[0]?.body ?? '')).toEqual(event)
  })

  test('names in paths and queries arrive as they are, whatever they hold', async () => {
    await client().getRelyingParty('main', 'a/b?c#d é')
    await client().getLogoutEvent('e1', { wait: 30 })
    await client().listDeliveries({ client_id: 'a&b=c', state: 'pending', limit: 5 })
    await client().getIssuer('main')
    await client().getEventSummary('e/1')
    await client().getReceipt('e1', { issuer: 'main', from: 3 })
    const targets = asked.map(({ url: target }) => new URL(target ?? '', 'http://x'))
    expect(decodeURIComponent(targets[0]?.pathname ?? '')).toBe('/v1/issuers/main/relying-parties/a/b?c#d é')
    expect(asked[1]?.url).toBe('/v1/logout-events/e1?wait=30')
    expect(Object.fromEntries(targets[2]?.searchParams ?? [])).toEqual({
      client_id: 'a&b=c',
      state: 'pending',
      limit: '5',
    })
    expect(asked[4]?.url).toBe('/v1/logout-events/e%2F1/summary')
    expect(asked[5]?.url).toBe('/v1/logout-events/e1/receipt?issuer=main&from=3')
    expect(asked.map(({ headers }) => headers['content-type'])).toEqual(Array(6).fill(undefined))
  })

  test.each(['', '/', '/curfew', '/curfew/'])('keeps the path that its URL has: %j', async (path) => {
    await createClient({ url: url + path, key: 'k' }).getIssuer('main')
    expect(asked[0]?.url).toBe(`${path.replace(/\/$/, '')}/v1/issuers/main`)
  })

  test('a problem becomes an ApiError that names the member to change, and keeps the rest', async () => {
    const problem = {
      type: 'about:blank',
      title: 'Invalid logout event',
      status: 400,
      detail: 'The event was not accepted.',
      errors: [
        { pointer: '/sub', detail: 'is missing' },
        { pointer: '/iss', detail: 'is missing' },
      ],
    }
    answer = {
      status: 400,
      headers: { 'content-type': 'application/problem+json' },
      body: JSON.stringify(problem),
    }
    const refusal = await refusalOf(client().postLogoutEvents([]))
    expect(refusal).toMatchObject({ message: '/sub is missing', status: 400, problem, retryAfterMs: null })
  })

  test('without errors the message is the detail, and without that the title', async () => {
    const problem = { type: 'about:blank', title: 'No such event', status: 404 }
    answer = { status: 404, body: JSON.stringify({ ...problem, detail: 'No event e1.' }) }
    expect((await refusalOf(client().getLogoutEvent('e1'))).message).toBe('No event e1.')
    answer = { status: 404, body: JSON.stringify(problem) }
    expect((await refusalOf(client().getLogoutEvent('e1'))).message).toBe('No such event')
  })

  test.each([
    ['2', 2_000],
    ['0', 0],
    ['soon', null],
    [undefined, null],
  ])('Retry-After %s is %s ms', async (value, expected) => {
    answer = {
      status: 503,
      ...(value !== undefined && { headers: { 'retry-after': value } }),
      body: '{"type":"about:blank","title":"Away","status":503}',
    }
    expect((await refusalOf(client().getJwks('main'))).retryAfterMs).toBe(expected)
  })

  test.each(['<html><h1>502 Bad Gateway</h1></html>', '', 'null', '"no"', '[]', '{"message":"Forbidden"}'])(
    "a refusal that is not ours, as a proxy's, is an ApiError with its status: %j",
    async (body) => {
      answer = { status: 502, body }
      const refusal = await refusalOf(client().getDelivery('d1'))
      expect(refusal).toMatchObject({ status: 502, message: 'HTTP 502' })
    },
  )

  test('where nobody answers it rejects, and not with an ApiError: there was no answer', async () => {
    const nobody = createServer().listen(0, '127.0.0.1')
    await once(nobody, 'listening')
    const { port } = nobody.address() as AddressInfo
    nobody.close()
    await once(nobody, 'close')
    const call = createClient({ url: `http://127.0.0.1:${port}`, key: 'k' }).getIssuer('main')
    await expect(call).rejects.not.toBeInstanceOf(ApiError)
  })
})
