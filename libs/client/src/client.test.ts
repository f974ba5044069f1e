import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { ApiError, createClient } from './client.ts'

// Goal: a call resolves to the answer, or rejects with an ApiError for every refusal, also for one of a proxy.
// Method: a real HTTP server that gives the answer of the test and records the requests.

interface RecordedRequest {
  readonly method: string | undefined
  readonly url: string | undefined
  readonly headers: IncomingMessage['headers']
  readonly body: string
}

let server: Server
let url: string
let requests: RecordedRequest[] = []
let answer: { status: number; headers?: Record<string, string>; body: string }

beforeAll(async () => {
  server = createServer(async (request, response) => {
    let body = ''
    for await (const chunk of request) body += chunk
    requests.push({ method: request.method, url: request.url, headers: request.headers, body })
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
  requests = []
  answer = { status: 200, body: '{}' }
})

const client = () => createClient({ url, key: 'cfw_1' })
const refusalOf = async (call: Promise<unknown>): Promise<ApiError> => {
  const error = await call.then(
    () => null,
    (reason: unknown) => reason,
  )
  if (error instanceof ApiError) return error
  throw new Error('the call did not reject with an ApiError', { cause: error })
}

describe('createClient', () => {
  test('posts an event as JSON with the API key, and returns the answer', async () => {
    answer = { status: 202, body: '{"id":"e1","status":"accepted"}' }
    const event = { iss: 'https://idp.example', sub: 'ü' }
    expect(await client().postLogoutEvent(event)).toEqual({ id: 'e1', status: 'accepted' })
    expect(requests).toMatchObject([
      {
        method: 'POST',
        url: '/v1/logout-events',
        headers: { authorization: 'Bearer cfw_1', 'content-type': 'application/json' },
      },
    ])
    expect(JSON.parse(requests[0]?.body ?? '')).toEqual(event)
  })

  test('takes a key with the line end of its file, and does not show a key that no header can have', async () => {
    await createClient({ url, key: async () => 'cfw_file\n' }).getIssuer('main')
    expect(requests[0]?.headers.authorization).toBe('Bearer cfw_file')
    const refused = createClient({ url, key: 'cfw_one\ncfw_two' }).getIssuer('main')
    await expect(refused).rejects.toThrow(/^The key for Curfew has characters that no key has/)
    expect(requests).toHaveLength(1)
  })

  test('gives up a request after its time, also within the answer', async () => {
    const slow = createServer((request, response) => {
      if (request.url === '/v1/issuers/half') response.writeHead(200).write('{')
    }).listen(0, '127.0.0.1')
    await once(slow, 'listening')
    const { port } = slow.address() as AddressInfo
    const hasty = createClient({ url: `http://127.0.0.1:${port}`, key: 'k', timeoutMs: 50 })
    for (const name of ['none', 'half'])
      await expect(hasty.getIssuer(name)).rejects.toMatchObject({ name: 'TimeoutError' })
    slow.close()
    slow.closeAllConnections()
  })

  test('encodes names in paths and queries', async () => {
    await client().getRelyingParty('main', 'a/b?c#d é')
    await client().getLogoutEvent('e1', { wait: 30 })
    await client().listDeliveries({ client_id: 'a&b=c', state: 'pending', limit: 5 })
    await client().getIssuer('main')
    await client().getEventSummary('e/1')
    await client().getReceipt('e1', { issuer: 'main', from: 3 })
    const targets = requests.map(({ url: target }) => new URL(target ?? '', 'http://x'))
    expect(decodeURIComponent(targets[0]?.pathname ?? '')).toBe('/v1/issuers/main/relying-parties/a/b?c#d é')
    expect(requests[1]?.url).toBe('/v1/logout-events/e1?wait=30')
    expect(Object.fromEntries(targets[2]?.searchParams ?? [])).toEqual({
      client_id: 'a&b=c',
      state: 'pending',
      limit: '5',
    })
    expect(requests[4]?.url).toBe('/v1/logout-events/e%2F1/summary')
    expect(requests[5]?.url).toBe('/v1/logout-events/e1/receipt?issuer=main&from=3')
    expect(requests.map(({ headers }) => headers['content-type'])).toEqual(Array(6).fill(undefined))
  })

  test.each(['', '/', '/curfew', '/curfew/'])('keeps the path of the base URL: %j', async (path) => {
    await createClient({ url: url + path, key: 'k' }).getIssuer('main')
    expect(requests[0]?.url).toBe(`${path.replace(/\/$/, '')}/v1/issuers/main`)
  })

  test('rejects with an ApiError whose message is the first error of the problem', async () => {
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

  test('falls back to the detail and then to the title for the message', async () => {
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
  ])('reads Retry-After %s as %s ms', async (value, expected) => {
    answer = {
      status: 503,
      ...(value !== undefined && { headers: { 'retry-after': value } }),
      body: '{"type":"about:blank","title":"Unavailable","status":503}',
    }
    expect((await refusalOf(client().getJwks('main'))).retryAfterMs).toBe(expected)
  })

  test.each(['<html><h1>502 Bad Gateway</h1></html>', '', 'null', '"no"', '[]', '{"message":"Forbidden"}'])(
    'rejects a refusal of a proxy with an ApiError that has its status: %j',
    async (body) => {
      answer = { status: 502, body }
      const refusal = await refusalOf(client().getDelivery('d1'))
      expect(refusal).toMatchObject({ status: 502, message: 'HTTP 502' })
    },
  )

  test('without an answer it rejects with another error than ApiError', async () => {
    const closed = createServer().listen(0, '127.0.0.1')
    await once(closed, 'listening')
    const { port } = closed.address() as AddressInfo
    closed.close()
    await once(closed, 'close')
    const call = createClient({ url: `http://127.0.0.1:${port}`, key: 'k' }).getIssuer('main')
    await expect(call).rejects.not.toBeInstanceOf(ApiError)
  })
})
