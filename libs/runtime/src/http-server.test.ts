import { once } from 'node:events'
import { Agent, request as httpRequest } from 'node:http'
import { connect } from 'node:net'
import { Writable } from 'node:stream'
import { LedgerUnavailableError } from '@curfew/domain'
import { Type } from 'typebox'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createApiKeyAuthenticator, hashApiKey } from './credentials.ts'
import { problemOf, traceparentOf } from './http-errors.ts'
import { createHttpServer, type HttpServer, httpService } from './http-server.ts'
import { createLog } from './log.ts'
import { createMetrics } from './metrics.ts'
import { type Problem, ProblemError } from './problem.ts'

// Goal: what every service's HTTP does for its callers, whatever its routes.
// Method: a server with a few routes on a real socket; fetch, and bare sockets where fetch is too polite.

const KEYS = createApiKeyAuthenticator([
  { name: 'admin', hash: hashApiKey('admin-key'), scopes: new Set(['admin']) },
  { name: 'reader', hash: hashApiKey('reader-key'), scopes: new Set(['things:read']) },
])
const READER = { authorization: 'Bearer reader-key' }
const SECRET = 'the password is hunter2'

let lines: Record<string, unknown>[] = []
const log = createLog({
  service: 'test',
  level: 'info',
  destination: new Writable({
    write(chunk: Buffer, _encoding, done) {
      lines.push(JSON.parse(chunk.toString()))
      done()
    },
  }),
})

const Thing = Type.Object({
  name: Type.String({ minLength: 1, maxLength: 10 }),
  size: Type.Optional(Type.Integer()),
  kind: Type.Optional(Type.Union([Type.Literal('round'), Type.Literal('flat')])),
  inner: Type.Optional(Type.Object({ 'a/b': Type.Boolean() })),
})

async function open(checks: Record<string, () => Promise<void>> = {}): Promise<HttpServer> {
  const server = await createHttpServer({
    title: 'Test',
    log,
    metrics: createMetrics(),
    authenticate: KEYS,
    checks,
  })
  server.post('/things', { config: { scope: 'public' }, schema: { body: Thing } }, async ({ body }) => body)
  server.get(
    '/things/:id',
    {
      config: { scope: 'things:read' },
      schema: {
        summary: 'A thing.',
        params: Type.Object({ id: Type.String() }),
        querystring: Type.Object({
          limit: Type.Integer({ minimum: 1, default: 50 }),
          tags: Type.Optional(Type.Array(Type.String())),
        }),
        response: { 200: Type.Object({ id: Type.String() }) },
      },
    },
    async ({ params, query, credential }) => ({ id: params.id, ...query, caller: credential?.name }),
  )
  server.delete('/things/:id', { config: { scope: 'things:write' }, schema: {} }, async (_request, reply) =>
    reply.code(204).send(),
  )
  server.get('/broken', { config: { scope: 'public' } }, async () => {
    throw Object.assign(new Error(SECRET), { statusCode: 404 })
  })
  server.get('/away', { config: { scope: 'public' } }, async () => {
    throw new LedgerUnavailableError(SECRET)
  })
  server.get('/busy', { config: { scope: 'public' } }, async () => {
    throw new ProblemError({
      status: 429,
      title: 'Slow down',
      detail: 'Later.',
      headers: { 'retry-after': '7' },
    })
  })
  server.get('/trace', { config: { scope: 'public' } }, async (request) => ({
    traceparent: traceparentOf(request),
    again: traceparentOf(request),
    problem: problemOf(new ProblemError({ status: 503, detail: 'x' }), request),
  }))
  return server
}

let server: HttpServer
let url = ''
beforeAll(async () => {
  server = await open()
  url = await server.listen({ host: '127.0.0.1', port: 0 })
})
afterAll(() => server.close())

async function problemFrom(response: Response): Promise<Problem> {
  expect(response.headers.get('content-type')).toBe('application/problem+json')
  return (await response.json()) as Problem
}
const post = (body: string | Uint8Array<ArrayBuffer>, headers: Record<string, string> = {}) =>
  fetch(`${url}/things`, {
    method: 'POST',
    body,
    headers: { 'content-type': 'application/json', ...headers },
  })
const faultsFor = async (body: unknown) => {
  const response = await post(JSON.stringify(body))
  expect(response.status).toBe(400)
  return (await problemFrom(response)).errors
}

/** What comes back for bytes that fetch would not send. */
async function raw(text: string): Promise<string> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  socket.end(text)
  let answer = ''
  for await (const chunk of socket) answer += String(chunk)
  return answer
}

describe('bodies', () => {
  test('what the schema says is taken as it is', async () => {
    const thing = { name: 'zoë 🎲', size: 3, kind: 'flat', inner: { 'a/b': true } }
    const response = await post(JSON.stringify(thing))
    expect(response.status).toBe(200)
    expect(await response.json()).toEqual(thing)
    expect(response.headers.get('cache-control')).toBe('no-store')
    expect(response.headers.get('x-content-type-options')).toBe('nosniff')
  })

  test('every fault is named, with a pointer to the member to change', async () => {
    expect(await faultsFor({ size: '3', kind: 'square', inner: { 'c~/d': 1 } })).toEqual([
      { pointer: '/name', detail: 'is missing' },
      { pointer: '/size', detail: 'must be a whole number' },
      { pointer: '/kind', detail: 'must be "round" or "flat"' },
      { pointer: '/inner/a~1b', detail: 'is missing' },
      { pointer: '/inner/c~0~1d', detail: 'is not a known member' },
    ])
  })

  test('text is not made a number, nor a member that nobody knows passed over', async () => {
    expect(await faultsFor({ name: 'x', size: '3' })).toEqual([
      { pointer: '/size', detail: 'must be a whole number' },
    ])
    expect(await faultsFor({ name: 'x', Size: 3 })).toEqual([
      { pointer: '/Size', detail: 'is not a known member' },
    ])
    expect(await faultsFor(null)).toEqual([{ pointer: '', detail: 'must be an object' }])
  })

  test('a body with very many faults costs little and is answered briefly', async () => {
    const members = Object.fromEntries(Array.from({ length: 60_000 }, (_, index) => [`member${index}`, 0]))
    expect(await faultsFor({ name: 'x', ...members })).toHaveLength(50)
    const [fault] = (await faultsFor({ name: 'x', ['n'.repeat(500_000)]: 0 })) ?? []
    expect(fault?.detail).toBe('has a member of 500000 characters, which is not a known one')
  })

  test.each([
    ['not JSON', '{"name":', 'is not JSON'],
    ['nothing', '', 'is empty'],
    ['__proto__', '{"name":"x","__proto__":{"admin":true}}', 'has a member named __proto__'],
    [
      'a constructor with a prototype',
      '{"name":"x","constructor":{"prototype":{}}}',
      'has a member named __proto__',
    ],
    [
      'bytes that are not UTF-8',
      Uint8Array.from([...Buffer.from('{"name":"'), 0xe9, 0x22, 0x7d]),
      'is not UTF-8',
    ],
    ['nesting without end', '['.repeat(400_000) + ']'.repeat(400_000), 'nested deeper than 64 levels'],
  ])('%s is refused', async (_what, body, detail) => {
    const problem = await problemFrom(await post(body))
    expect(problem).toMatchObject({ status: 400, title: 'Invalid body', instance: '/things' })
    expect(problem.errors).toHaveLength(1)
    expect(problem.errors?.[0]?.detail).toContain(detail)
  })

  test('strings that a database could not keep are refused where they stand', async () => {
    for (const text of ['a\\u0000', '\\ud800', '\\udc00\\ud800']) {
      const { errors } = await problemFrom(await post(`{"name":"x","inner":{"a/b":["${text}"]}}`))
      expect(errors).toEqual([{ pointer: '/inner/a~1b/0', detail: 'is not Unicode text without U+0000' }])
    }
    expect((await post('{"name":"\\ud83c\\udfb2"}')).status).toBe(200)
  })

  test('over 1 MiB is 413, another media type or coding 415', async () => {
    expect((await problemFrom(await post(' '.repeat(1024 * 1024 + 1)))).status).toBe(413)
    expect(
      (await problemFrom(await post('name=x', { 'content-type': 'application/x-www-form-urlencoded' })))
        .status,
    ).toBe(415)
    expect((await problemFrom(await post('{}', { 'content-encoding': 'gzip' }))).status).toBe(415)
  })

  test('a client that goes away in the middle of its body is no failure of ours', async () => {
    lines = []
    const socket = connect(Number(new URL(url).port), '127.0.0.1')
    await once(socket, 'connect')
    const [message] = await Promise.all([
      once(server.server, 'request'),
      socket.write(
        'POST /things HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{"na',
      ),
    ])
    socket.resetAndDestroy()
    await once(message[1], 'close')
    expect(lines).toEqual([])
  })
})

describe('paths and queries', () => {
  test('a query is made of the types that its schema says', async () => {
    const response = await fetch(`${url}/things/1?limit=7&tags=a`, { headers: READER })
    expect(await response.json()).toEqual({ id: '1', limit: 7, tags: ['a'], caller: 'reader' })
    const plain = await fetch(`${url}/things/1`, { headers: READER })
    expect(await plain.json()).toEqual({ id: '1', limit: 50, caller: 'reader' })
  })

  test.each([
    ['limit=0', { pointer: '/limit', detail: 'must be at least 1' }],
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

  test('a route whose schema names no parameters takes none', async () => {
    const headers = { authorization: 'Bearer admin-key' }
    expect((await fetch(`${url}/things/1`, { method: 'DELETE', headers })).status).toBe(204)
    expect((await fetch(`${url}/things/1?dry_run=true`, { method: 'DELETE', headers })).status).toBe(400)
  })

  test('an unknown path is 404; a known one by another method 405, and says which there are', async () => {
    expect(await problemFrom(await fetch(`${url}/nothing?x=1`))).toMatchObject({
      status: 404,
      instance: '/nothing',
    })
    const response = await fetch(`${url}/things/1`, { method: 'PUT', body: '{}' })
    expect(response.headers.get('allow')).toBe('GET, HEAD, DELETE')
    expect((await problemFrom(response)).status).toBe(405)
  })

  test('paths that are no text are refused', async () => {
    for (const path of ['/things/%ff', '/things/%zz', '/things/a%00', '/things/1?tags=%00']) {
      const response = await fetch(url + path, { headers: READER })
      expect(await problemFrom(response), path).toMatchObject({ status: 400, title: 'Invalid path' })
      expect(response.headers.get('x-content-type-options')).toBe('nosniff')
    }
    expect(
      (await problemFrom(await fetch(`${url}/things/${'x'.repeat(3_000)}`, { headers: READER }))).status,
    ).toBe(414)
  })

  test('what is not HTTP is answered as a problem too', async () => {
    expect(await raw('NONSENSE\r\n\r\n')).toMatch(
      /^HTTP\/1.1 400 [^]*application\/problem\+json[^]*"status":400/,
    )
    const header = `x: ${'y'.repeat(20_000)}`
    expect(await raw(`GET /healthz HTTP/1.1\r\nhost: x\r\n${header}\r\n\r\n`)).toMatch(
      /^HTTP\/1.1 431 [^]*"status":431/,
    )
  })
})

describe('authentication', () => {
  const challenge = async (path: string, headers: Record<string, string>) => {
    const response = await fetch(url + path, { headers, method: path === '/things/1' ? 'GET' : 'DELETE' })
    return [response.status, response.headers.get('www-authenticate')]
  }

  test('no header, or one that is not of the scheme, is 401 without an error code', async () => {
    expect(await challenge('/things/1', {})).toEqual([401, 'Bearer'])
    expect(await challenge('/things/1', { authorization: 'Basic cmVhZGVyLWtleQ==' })).toEqual([401, 'Bearer'])
    expect(await challenge('/things/1', { authorization: 'Bearer two words' })).toEqual([401, 'Bearer'])
  })

  test('an unknown key is 401 invalid_token, a scope too few 403 and says which', async () => {
    expect(await challenge('/things/1', { authorization: 'Bearer reader-kez' })).toEqual([
      401,
      'Bearer error="invalid_token"',
    ])
    expect(await challenge('/things/2', READER)).toEqual([
      403,
      'Bearer error="insufficient_scope", scope="things:write"',
    ])
  })

  test('the scheme is written in any case, and admin may do everything', async () => {
    expect(await challenge('/things/1', { authorization: 'bearer admin-key' })).toEqual([200, null])
    expect(await challenge('/things/2', { authorization: 'Bearer admin-key' })).toEqual([204, null])
  })

  test('who may not, learns nothing of what the request would have been answered with', async () => {
    expect(await challenge('/things/1?limit=nonsense', {})).toEqual([401, 'Bearer'])
  })

  test('a route that declares no scope cannot be registered', async () => {
    const other = await open()
    expect(() => other.get('/open-by-mistake', async () => 'x')).toThrow('/open-by-mistake declares no scope')
    await other.close()
  })
})

describe('failures', () => {
  test('a mistake of ours is 500, its cause only in the log, under the same trace id', async () => {
    lines = []
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

  test('what is away just now is 503 with Retry-After', async () => {
    const response = await fetch(`${url}/away`)
    expect(response.headers.get('retry-after')).toBe('2')
    const problem = await problemFrom(response)
    expect(problem.status).toBe(503)
    expect(problem.trace_id).toMatch(/^[0-9a-f]{32}$/)
    expect(JSON.stringify(problem)).not.toContain('hunter2')
  })

  test('a refusal by a handler is answered as it says', async () => {
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

  test('the trace context is the caller’s where that is valid, else one of ours; one for each request', async () => {
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

describe('what every service serves', () => {
  test('OpenAPI 3.1 of its own routes, with scopes and problems', async () => {
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
            responses: {
              200: { content: { 'application/json': { schema: { required: ['id'] } } } },
              default: { content: { 'application/problem+json': { schema: { type: 'object' } } } },
            },
          },
        },
      },
    })
    expect(Object.keys(document.paths as object)).not.toContain('/metrics')
  })

  test('metrics, by route and not by path', async () => {
    await fetch(`${url}/things/1`, { headers: READER })
    const response = await fetch(`${url}/metrics`)
    expect(response.headers.get('content-type')).toContain('text/plain')
    const text = await response.text()
    expect(text).toMatch(
      /curfew_http_request_duration_seconds_count\{method="GET",route="\/things\/:id",status="200"} \d/,
    )
    expect(text).toContain('curfew_process_cpu_seconds_total')
  })

  test('readiness names what does not answer, and the log says so once', async () => {
    lines = []
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
    expect(await ready()).toEqual([503, { status: 'not ready', away: ['ledger'] }])
    well = true
    expect(await ready()).toEqual([200, { status: 'ready', away: [] }])
    expect(lines.map(({ event, check }) => [event, check])).toEqual([
      ['check.failed', 'ledger'],
      ['check.recovered', 'ledger'],
    ])
    expect((await fetch(`${base}/healthz`)).status).toBe(200)
    await other.close()
  })
})

describe('httpService', () => {
  test('finishes what is in flight, serves what comes over open connections, and closes those that idle', async () => {
    const other = await open()
    const held = Promise.withResolvers<void>()
    const entered = Promise.withResolvers<void>()
    other.get('/slow', { config: { scope: 'public' } }, async () => {
      entered.resolve()
      await held.promise
      return 'done'
    })
    const stopping = new AbortController()
    const listening = Promise.withResolvers<string>()
    const running = httpService(other, {
      host: '127.0.0.1',
      port: 0,
      log,
      onListening: listening.resolve,
    }).run({
      stopping: stopping.signal,
      abandoning: new AbortController().signal,
      ready: () => undefined,
    })
    const base = await listening.promise
    const idle = connect(Number(new URL(base).port), '127.0.0.1')
    await once(idle, 'connect')
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    const slow = get(`${base}/slow`, agent)
    await entered.promise

    const closing = once(idle, 'close')
    idle.resume()
    stopping.abort()
    await closing
    await expect(fetch(`${base}/healthz`)).rejects.toThrow()
    held.resolve()
    expect(await slow).toEqual({ status: 200, connection: 'close', body: 'done' })
    await running
    agent.destroy()
  })

  test('lets go of what is in flight when told to abandon it', async () => {
    const other = await open()
    const entered = Promise.withResolvers<void>()
    other.get('/stuck', { config: { scope: 'public' } }, () => {
      entered.resolve()
      return Promise.withResolvers<never>().promise
    })
    const stopping = new AbortController()
    const abandoning = new AbortController()
    const listening = Promise.withResolvers<string>()
    const running = httpService(other, {
      host: '127.0.0.1',
      port: 0,
      log,
      onListening: listening.resolve,
    }).run({
      stopping: stopping.signal,
      abandoning: abandoning.signal,
      ready: () => undefined,
    })
    const stuck = fetch(`${await listening.promise}/stuck`)
    await entered.promise
    stopping.abort()
    abandoning.abort()
    await expect(stuck).rejects.toThrow()
    await running
  })

  test('rejects when its port is taken', async () => {
    const other = await open()
    const port = Number(new URL(url).port)
    const context = { stopping: new AbortController().signal, abandoning: new AbortController().signal }
    await expect(
      httpService(other, { host: '127.0.0.1', port, log }).run({ ...context, ready: () => undefined }),
    ).rejects.toThrow('EADDRINUSE')
    await other.close()
  })
})

function get(target: string, agent: Agent): Promise<{ status: unknown; connection: unknown; body: string }> {
  const { promise, resolve, reject } = Promise.withResolvers<Awaited<ReturnType<typeof get>>>()
  httpRequest(target, { agent }, async (response) => {
    let body = ''
    for await (const chunk of response) body += String(chunk)
    resolve({ status: response.statusCode, connection: response.headers.connection, body })
  })
    .on('error', reject)
    .end()
  return promise
}
