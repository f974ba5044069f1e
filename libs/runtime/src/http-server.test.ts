import { connect } from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { lines, open, problemFrom, READER, SECRET } from './http-server.fixture.ts'
import type { HttpServer } from './http-server.ts'
import type { Problem } from './problem.ts'

// Goal: the HTTP servers of all services behave alike, whatever their routes.
// Method: a server with a few routes on a real socket; fetch, and bare sockets where fetch is too polite.

let server: HttpServer
let url = ''
beforeAll(async () => {
  server = await open()
  url = await server.listen({ host: '127.0.0.1', port: 0 })
})
afterAll(() => server.close())

/** Sends bytes that fetch would not send. @returns the answer. */
async function raw(text: string): Promise<string> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  socket.end(text)
  let answer = ''
  for await (const chunk of socket) answer += String(chunk)
  return answer
}

describe('paths and queries', () => {
  test('query parameters are converted to the types of their schema', async () => {
    const response = await fetch(`${url}/things/1?limit=7&tags=a`, { headers: READER })
    expect(await response.json()).toEqual({ id: '1', limit: 7, tags: ['a'], caller: 'reader' })
    const plain = await fetch(`${url}/things/1`, { headers: READER })
    expect(await plain.json()).toEqual({ id: '1', limit: 50, caller: 'reader' })
  })

  test.each([
    ['limit=0', { pointer: '/limit', detail: 'must be at least 1' }],
    ['limit=1e309', { pointer: '/limit', detail: 'must be at most 500' }],
    ['limit=-1e309', { pointer: '/limit', detail: 'must be at least 1' }],
    ['limit=many', { pointer: '/limit', detail: 'must be a whole number' }],
    ['limit=1&limit=2', { pointer: '/limit', detail: 'must be a whole number' }],
    ['limt=1', { pointer: '/limt', detail: 'is not a known member' }],
  ])('?%s is refused', async (query, fault) => {
    const problem = await problemFrom(await fetch(`${url}/things/1?${query}`, { headers: READER }))
    expect(problem).toMatchObject({
      status: 400,
      title: 'Invalid query',
      instance: '/things/1',
      errors: [fault],
    })
  })

  test('a route whose schema names no parameters accepts none', async () => {
    const headers = { authorization: 'Bearer admin-key' }
    expect((await fetch(`${url}/things/1`, { method: 'DELETE', headers })).status).toBe(204)
    expect((await fetch(`${url}/things/1?dry_run=true`, { method: 'DELETE', headers })).status).toBe(400)
  })

  test('a DELETE with a Content-Type and no body is accepted, because many clients send one', async () => {
    const headers = { authorization: 'Bearer admin-key', 'content-type': 'application/json' }
    expect((await fetch(`${url}/things/1`, { method: 'DELETE', headers })).status).toBe(204)
  })

  test('an unknown path is 404; a known path with another method is 405 and lists the allowed methods', async () => {
    expect(await problemFrom(await fetch(`${url}/nothing?x=1`))).toMatchObject({
      status: 404,
      instance: '/nothing',
    })
    const response = await fetch(`${url}/things/1`, { method: 'PUT', body: '{}' })
    expect(response.headers.get('allow')).toBe('GET, HEAD, DELETE')
    expect((await problemFrom(response)).status).toBe(405)
  })

  test('paths that are not valid text are refused', async () => {
    for (const path of ['/things/%ff', '/things/%zz', '/things/a%00', '/things/1?tags=%00']) {
      const response = await fetch(url + path, { headers: READER })
      expect(await problemFrom(response), path).toMatchObject({ status: 400, title: 'Invalid path' })
      expect(response.headers.get('x-content-type-options')).toBe('nosniff')
    }
    expect(
      (await problemFrom(await fetch(`${url}/things/${'x'.repeat(3_000)}`, { headers: READER }))).status,
    ).toBe(414)
  })

  test('bytes that are not HTTP are answered with a problem too', async () => {
    expect(await raw('NONSENSE\r\n\r\n')).toMatch(
      /^HTTP\/1.1 400 .*application\/problem\+json.*"status":400/s,
    )
    const header = `x: ${'y'.repeat(20_000)}`
    expect(await raw(`GET /healthz HTTP/1.1\r\nhost: x\r\n${header}\r\n\r\n`)).toMatch(
      /^HTTP\/1.1 431 .*"status":431/s,
    )
  })
})

describe('authentication', () => {
  const challenge = async (path: string, headers: Record<string, string>) => {
    const response = await fetch(url + path, { headers, method: path === '/things/2' ? 'DELETE' : 'GET' })
    return [response.status, response.headers.get('www-authenticate')]
  }

  test('a missing header, or one with another scheme, is 401 without an error code', async () => {
    expect(await challenge('/things/1', {})).toEqual([401, 'Bearer'])
    expect(await challenge('/things/1', { authorization: 'Basic cmVhZGVyLWtleQ==' })).toEqual([401, 'Bearer'])
    expect(await challenge('/things/1', { authorization: 'Bearer two words' })).toEqual([401, 'Bearer'])
  })

  test('an unknown key is 401 invalid_token; a missing scope is 403 and is named', async () => {
    expect(await challenge('/things/1', { authorization: 'Bearer reader-kez' })).toEqual([
      401,
      'Bearer error="invalid_token"',
    ])
    expect(await challenge('/things/2', READER)).toEqual([
      403,
      'Bearer error="insufficient_scope", scope="things:write"',
    ])
  })

  test('a route of scope any needs a valid credential, with any scopes', async () => {
    expect(await challenge('/me', {})).toEqual([401, 'Bearer'])
    expect(await challenge('/me', { authorization: 'Bearer reader-kez' })).toEqual([
      401,
      'Bearer error="invalid_token"',
    ])
    expect(await challenge('/me', READER)).toEqual([200, null])
    expect(await challenge('/me', { authorization: 'Bearer bound-key' })).toEqual([200, null])
  })

  test('the scheme is case-insensitive, and admin may do everything', async () => {
    expect(await challenge('/things/1', { authorization: 'bearer admin-key' })).toEqual([200, null])
    expect(await challenge('/things/2', { authorization: 'Bearer admin-key' })).toEqual([204, null])
  })

  test('an unauthenticated caller does not learn whether the request is valid', async () => {
    expect(await challenge('/things/1?limit=nonsense', {})).toEqual([401, 'Bearer'])
  })

  test('a route without a scope, without access rules, or without an issuer in its path cannot be registered', async () => {
    const other = await open()
    expect(() => other.get('/open-by-mistake', async () => 'x')).toThrow('/open-by-mistake declares no scope')
    expect(() => other.get('/unconfined', { config: { scope: 'x' } }, async () => 'x')).toThrow('no access')
    const nowhere = { config: { scope: 'x', access: 'path' } } as const
    expect(() => other.get('/nowhere', nowhere, async () => 'x')).toThrow('names no issuer')
    await other.close()
  })

  test('a bound credential reaches its own resources, and cannot tell whether others exist', async () => {
    const answer = async (path: string, method = 'GET') => {
      const response = await fetch(url + path, { method, headers: { authorization: 'Bearer bound-key' } })
      return [response.status, response.ok ? null : ((await response.json()) as { detail: string }).detail]
    }
    const hidden = [404, 'There is nothing here that this credential may see.']
    expect(await answer('/of/main/things/mail')).toEqual([200, null])
    expect(await answer('/of/main/things/wiki')).toEqual(hidden)
    expect(await answer('/of/other/things/mail')).toEqual(hidden)
    expect(await answer('/of/main')).toEqual(hidden)
    // A route with access `handler` runs; one with access `unbound` refuses the credential.
    expect(await answer('/things/1?limit=1')).toEqual([200, null])
    expect(await answer('/things/1', 'DELETE')).toMatchObject([403, expect.stringContaining('bound')])
  })
})

describe('failures', () => {
  test('an internal error is 500, and only the log has its cause, under the same trace id', async () => {
    lines.splice(0)
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
    const response = await fetch(`${url}/broken`, { headers: { traceparent } })
    const text = await response.clone().text()
    const problem = await problemFrom(response)
    expect(problem).toMatchObject({ status: 500, trace_id: '0af7651916cd43dd8448eb211c80319c' })
    expect(text).not.toContain('hunter2')
    expect(lines).toMatchObject([
      { level: 'error', event: 'request.failed', trace_id: problem.trace_id, err: { message: SECRET } },
    ])
  })

  test('an unavailable dependency is 503 with Retry-After', async () => {
    const response = await fetch(`${url}/unavailable`)
    expect(response.headers.get('retry-after')).toBe('2')
    const problem = await problemFrom(response)
    expect(problem.status).toBe(503)
    expect(problem.trace_id).toMatch(/^[0-9a-f]{32}$/)
    expect(JSON.stringify(problem)).not.toContain('hunter2')
  })

  test('a flood of requests to an unavailable dependency is one line without a stack', async () => {
    // The throttle of this server is new.
    const own = await open()
    const at = await own.listen({ host: '127.0.0.1', port: 0 })
    lines.splice(0)
    const answers = await Promise.all(Array.from({ length: 20 }, () => fetch(`${at}/unavailable`)))
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 503))
    expect(lines).toMatchObject([
      { level: 'warn', event: 'request.failed', route: '/unavailable', code: 'ERR_LEDGER_UNAVAILABLE' },
    ])
    expect(lines[0]).toHaveProperty('reason')
    expect(JSON.stringify(lines)).not.toContain('stack')
    await own.close()
  })

  test('a problem that a handler throws is the answer', async () => {
    const response = await fetch(`${url}/busy`)
    expect(response.headers.get('retry-after')).toBe('7')
    expect(await problemFrom(response)).toEqual({
      type: 'about:blank',
      title: 'Slow down',
      status: 429,
      detail: 'Later.',
      instance: '/busy',
    })
  })

  test('a request has one trace context: the caller’s if that is valid, otherwise a new one', async () => {
    const trace = async (traceparent: string) =>
      (await (await fetch(`${url}/trace`, { headers: { traceparent } })).json()) as {
        traceparent: string
        again: string
        problem: Problem
      }
    const theirs = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
    expect(await trace(theirs)).toMatchObject({
      traceparent: theirs,
      again: theirs,
      problem: { instance: '/trace' },
    })
    const ours = await trace('00-00000000000000000000000000000000-b7ad6b7169203331-01')
    expect(ours.traceparent).toMatch(/^00-(?!0{32})[0-9a-f]{32}-[0-9a-f]{16}-00$/)
    expect(ours.again).toBe(ours.traceparent)
    expect(ours.problem.trace_id).toBe(ours.traceparent.slice(3, 35))
  })
})

describe('the routes of every service', () => {
  test('OpenAPI 3.1 describes the service’s routes, with scopes and problems', async () => {
    const document = (await (await fetch(`${url}/openapi.json`)).json()) as Record<string, unknown>
    expect(document).toMatchObject({
      openapi: '3.1.0',
      info: { title: 'Test' },
      paths: {
        '/things': {
          post: {
            security: [],
            requestBody: {
              content: {
                'application/json': { schema: { additionalProperties: false, required: ['name'] } },
              },
            },
          },
        },
        '/things/{id}': {
          get: {
            summary: 'A thing.',
            security: [{ bearer: ['things:read'] }],
            parameters: expect.arrayContaining([
              // The parameter has a default, so it is optional.
              {
                in: 'query',
                name: 'limit',
                required: false,
                schema: expect.objectContaining({ default: 50 }),
              },
            ]),
            responses: {
              200: { content: { 'application/json': { schema: { required: ['id'] } } } },
              '4XX': {
                content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } },
              },
            },
          },
        },
      },
    })
    expect(Object.keys(document.paths as object)).not.toContain('/metrics')
  })

  test('metrics are labelled by route and not by path', async () => {
    await fetch(`${url}/things/1`, { headers: READER })
    const response = await fetch(`${url}/metrics`)
    expect(response.headers.get('content-type')).toContain('text/plain')
    const text = await response.text()
    expect(text).toMatch(
      /curfew_http_request_duration_seconds_count\{method="GET",route="\/things\/:id",status="200"} \d/,
    )
    expect(text).toMatch(/^process_cpu_seconds_total \d/m)
  })

  test('readiness names the checks that fail, and the log has one line about each', async () => {
    lines.splice(0)
    let well = false
    const other = await open({
      ledger: async () => {
        if (!well) throw new Error(SECRET)
      },
      'event-log': async () => undefined,
    })
    const base = await other.listen({ host: '127.0.0.1', port: 0 })
    const ready = async () => {
      const response = await fetch(`${base}/readyz`)
      return [response.status, await response.json()]
    }
    const checks = ['ledger', 'event-log']
    expect(await ready()).toEqual([
      503,
      { status: 'not ready', unavailable: ['ledger'], degraded: [], checks },
    ])
    well = true
    expect(await ready()).toEqual([200, { status: 'ready', unavailable: [], degraded: [], checks }])
    expect(lines.map(({ event, check }) => [event, check])).toEqual([
      ['check.failed', 'ledger'],
      ['check.recovered', 'ledger'],
    ])
    expect((await fetch(`${base}/healthz`)).status).toBe(200)
    await other.close()
  })
})
