import { Writable } from 'node:stream'
import {
  type AccessFilter,
  type ClientId,
  EVERYTHING,
  type Issuer,
  type IssuerName,
  LedgerUnavailableError,
} from '@curfew/domain'
import { Type } from 'typebox'
import { adminKey, createApiKeyAuthenticator, hashApiKey } from './credentials.ts'
import { problemOf, traceparentOf } from './http-errors.ts'
import { createHttpServer, type HttpServer } from './http-server.ts'
import { createLog } from './log.ts'
import { createMetrics } from './metrics.ts'
import { type Problem, ProblemError } from './problem.ts'

// A server with a few routes, for tests of the behaviour that all servers share.

const BOUND: AccessFilter = {
  kind: 'clients',
  issuer: 'main' as IssuerName,
  iss: 'https://idp.example' as Issuer,
  clients: new Set(['mail' as ClientId]),
}
const KEYS = createApiKeyAuthenticator([
  adminKey('admin', hashApiKey('admin-key')),
  {
    name: 'reader',
    hash: hashApiKey('reader-key'),
    scopes: new Set(['things:read']),
    access: EVERYTHING,
    requestsPerSecond: null,
    expiresAt: null,
  },
  {
    name: 'bound',
    hash: hashApiKey('bound-key'),
    scopes: new Set(['admin']),
    access: BOUND,
    requestsPerSecond: null,
    expiresAt: null,
  },
])
export const READER = { authorization: 'Bearer reader-key' }
/** A text that no answer may contain. */
export const SECRET = 'the password is hunter2'

/** The lines of the log. Tests empty it with `splice`. */
export const lines: Record<string, unknown>[] = []
export const log = createLog({
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

export async function open(
  checks: Record<string, () => Promise<void>> = {},
  options: { readonly metricsApart?: boolean } = {},
): Promise<HttpServer> {
  const server = await createHttpServer({
    title: 'Test',
    log,
    metrics: createMetrics(),
    authenticate: KEYS,
    checks,
    ...options,
  })
  server.post('/things', { config: { scope: 'public' }, schema: { body: Thing } }, async ({ body }) => body)
  server.get(
    '/things/:id',
    {
      config: { scope: 'things:read', access: 'handler' },
      schema: {
        summary: 'A thing.',
        params: Type.Object({ id: Type.String() }),
        querystring: Type.Object({
          limit: Type.Integer({ minimum: 1, maximum: 500, default: 50 }),
          tags: Type.Optional(Type.Array(Type.String())),
        }),
        response: { 200: Type.Object({ id: Type.String() }) },
      },
    },
    async ({ params, query, credential }) => ({ id: params.id, ...query, caller: credential?.name }),
  )
  server.delete(
    '/things/:id',
    { config: { scope: 'things:write', access: 'unbound' }, schema: {} },
    async (_request, reply) => reply.code(204).send(),
  )
  server.get('/me', { config: { scope: 'any', access: 'handler' } }, async ({ credential }) => ({
    name: credential?.name,
  }))
  const ownPath = { config: { scope: 'things:read', access: 'path' } } as const
  server.get('/of/:issuer', ownPath, async () => ({}))
  server.get('/of/:issuer/things/:client_id', ownPath, async () => ({}))
  server.get('/broken', { config: { scope: 'public' } }, async () => {
    throw Object.assign(new Error(SECRET), { statusCode: 404 })
  })
  server.get('/unavailable', { config: { scope: 'public' } }, async () => {
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

/** The problem in an answer. @throws when the answer is not a problem. */
export async function problemFrom(response: Response): Promise<Problem> {
  const type = response.headers.get('content-type')
  if (type !== 'application/problem+json') throw new Error(`answered with ${type}, not with a problem`)
  return (await response.json()) as Problem
}
