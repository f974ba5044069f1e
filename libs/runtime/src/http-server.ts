import { randomBytes } from 'node:crypto'
import swagger from '@fastify/swagger'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import {
  type FastifyBaseLogger,
  type FastifyError,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  fastify,
  type RawReplyDefaultExpression,
  type RawRequestDefaultExpression,
  type RawServerDefault,
} from 'fastify'
import { type Authenticate, type Credential, hasScope } from './credentials.ts'
import type { Service } from './lifecycle.ts'
import { aborted } from './lifecycle.ts'
import type { Log } from './log.ts'
import type { Metrics } from './metrics.ts'
import { type Problem, ProblemError, type ProblemFacts, problemBody } from './problem.ts'
import { bodyAjv, faultsOf, textAjv } from './validator.ts'
import { VERSION } from './version.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The scope that a caller needs, or `public`. Every route says one. */
    readonly scope?: string
  }
  interface FastifyRequest {
    /** Who calls; null on public routes. */
    credential: Credential | null
    /** W3C trace context of this request: the caller's, or one of ours. */
    traceparent: string
  }
}

/** Fastify with TypeBox schemas: one definition validates, types and documents. */
export type HttpServer = FastifyInstance<
  RawServerDefault,
  RawRequestDefaultExpression,
  RawReplyDefaultExpression,
  FastifyBaseLogger,
  TypeBoxTypeProvider
>

export interface HttpServerOptions {
  readonly title: string
  readonly log: Log
  readonly metrics: Metrics
  readonly authenticate: Authenticate
  /** What must answer for this process to be ready, by name. */
  readonly checks: Readonly<Record<string, () => Promise<void>>>
}

const BODY_BYTES_MAX = 1024 * 1024
const CHECK_MS_MAX = 2_000
/** Headers a client may take, in milliseconds; the body has as long again. */
const REQUEST_MS_MAX = 30_000

export async function createHttpServer(options: HttpServerOptions): Promise<HttpServer> {
  const { title, log, metrics, authenticate, checks } = options
  const server: HttpServer = fastify({
    bodyLimit: BODY_BYTES_MAX,
    requestTimeout: REQUEST_MS_MAX,
    return503OnClosing: true,
    forceCloseConnections: 'idle',
    routerOptions: { maxParamLength: 2_048 },
  }).withTypeProvider<TypeBoxTypeProvider>()
  const durations = metrics.histogram(
    'http_request_duration_seconds',
    'Time from a request to its answer.',
    [0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 30],
    ['method', 'route', 'status'],
  )

  server.setValidatorCompiler(({ schema, httpPart }) =>
    (httpPart === 'body' ? bodyAjv : textAjv).compile(schema as object),
  )
  // Answers are typed by their schemas where they are made; they are written as they are.
  server.setSerializerCompiler(() => (answer) => JSON.stringify(answer))
  acceptOnlyJson(server)
  server.decorateRequest('credential', null)
  server.decorateRequest('traceparent', '')

  server.addHook('onRoute', ({ config, url }) => {
    if (config?.scope === undefined) throw new Error(`route ${url} says no scope`)
  })
  server.addHook('onRequest', async (request, reply) => {
    request.traceparent = traceparent(request.headers.traceparent)
    reply.header('cache-control', 'no-store').header('x-content-type-options', 'nosniff')
    // An unknown route has no scope, and tells nobody anything.
    const { scope } = request.routeOptions.config
    if (scope !== undefined && scope !== 'public')
      request.credential = await authorize(request, scope, authenticate)
  })
  server.addHook('onResponse', async (request, reply) => {
    const route = request.routeOptions.url ?? 'none'
    durations.observe({ method: request.method, route, status: reply.statusCode }, reply.elapsedTime / 1_000)
  })
  server.setErrorHandler((error: FastifyError, request, reply) => {
    const facts = factsOf(error)
    if (facts.status >= 500) {
      log.error({
        event: 'request.failed',
        method: request.method,
        route: request.routeOptions.url,
        status: facts.status,
        trace_id: traceId(request),
        err: error,
      })
    }
    return sendProblem(facts, request, reply)
  })
  server.setNotFoundHandler((request, reply) =>
    sendProblem({ status: 404, detail: `There is no ${request.method} ${path(request)}.` }, request, reply),
  )

  await server.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title, version: VERSION },
      components: { securitySchemes: { bearer: { type: 'http', scheme: 'bearer' } } },
      security: [{ bearer: [] }],
    },
  })
  const config = { scope: 'public' }
  const hidden = { schema: { hide: true }, config }
  server.get('/openapi.json', hidden, async () => server.swagger())
  server.get('/healthz', hidden, async () => ({ status: 'alive' }))
  server.get('/readyz', hidden, async (_request, reply) => {
    const away = await failing(checks, log)
    return reply
      .code(away.length === 0 ? 200 : 503)
      .send({ status: away.length === 0 ? 'ready' : 'not ready', away })
  })
  server.get('/metrics', hidden, async (_request, reply) => {
    const { contentType, body } = await metrics.expose()
    return reply
      .type(contentType)
      .serializer((text: string) => text)
      .send(body)
  })
  return server
}

/** Serves until the process stops, then lets requests in flight finish. */
export function httpService(
  server: HttpServer,
  { host, port, log, onListening }: { host: string; port: number; log: Log; onListening?: (url: string) => void },
): Service {
  return {
    name: 'http',
    async run({ stopping, abandoning, ready }) {
      const url = await server.listen({ host, port })
      log.info({ event: 'server.listening', url })
      onListening?.(url)
      ready()
      await aborted(stopping)
      const closed = server.close()
      abandoning.addEventListener('abort', () => server.server.closeAllConnections(), { once: true })
      await closed
    },
  }
}

/** The trace context that work begun by this request carries on. */
export function traceparentOf(request: FastifyRequest): string {
  return request.traceparent
}

/** The body that `error` would be answered with. */
export function problemOf(error: ProblemError, request: FastifyRequest): Problem {
  return problemBody(error.problem, path(request), traceId(request))
}

function acceptOnlyJson(server: HttpServer): void {
  const parse = server.getDefaultJsonParser('error', 'error')
  const utf8 = new TextDecoder('utf-8', { fatal: true })
  server.removeAllContentTypeParsers()
  server.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body, done) => {
    let text: string
    try {
      // Strict: a replaced character would be another subject.
      text = utf8.decode(body as Buffer)
    } catch {
      done(
        new ProblemError({
          status: 400,
          title: 'Invalid body',
          detail: 'The body is not UTF-8.',
          errors: [{ pointer: '', detail: 'is not UTF-8' }],
        }),
      )
      return
    }
    parse(request, text, done)
  })
}

async function authorize(
  request: FastifyRequest,
  scope: string,
  authenticate: Authenticate,
): Promise<Credential> {
  const refuse = (status: 401 | 403, detail: string, challenge: string) =>
    new ProblemError({ status, detail, headers: { 'www-authenticate': `Bearer${challenge}` } })
  const header = request.headers.authorization
  if (header === undefined) throw refuse(401, 'Give an API key or access token: Authorization: Bearer ….', '')
  const token = /^Bearer +([\w\-.~+/]+=*) *$/i.exec(header)?.[1]
  if (token === undefined)
    throw refuse(401, 'The Authorization header is not of the form Bearer ….', ' error="invalid_request"')
  const credential = await authenticate(token)
  if (credential === null) throw refuse(401, 'This key is not known.', ' error="invalid_token"')
  if (!hasScope(credential, scope)) {
    throw refuse(403, `This needs the scope ${scope}.`, ` error="insufficient_scope", scope="${scope}"`)
  }
  return credential
}

/** What Fastify's own errors mean, and what ours say. */
function factsOf(error: FastifyError | ProblemError): ProblemFacts {
  if (error instanceof ProblemError) return error.problem
  if (error.validation !== undefined) {
    const errors = faultsOf(error.validation as Parameters<typeof faultsOf>[0])
    return {
      status: 400,
      title: 'Invalid request',
      detail: 'Mend what errors names and send it again.',
      errors,
    }
  }
  if (error.code === 'ERR_LEDGER_UNAVAILABLE') {
    return {
      status: 503,
      title: 'Ledger not available',
      detail: 'Ask again in a moment.',
      headers: { 'retry-after': '2' },
    }
  }
  const status = error.statusCode ?? 500
  if (status === 413) return { status, detail: `A body may have ${BODY_BYTES_MAX} bytes.` }
  if (status === 415) return { status, detail: 'Send the body as application/json.' }
  if (status >= 400 && status < 500) {
    return {
      status,
      title: 'Invalid body',
      detail: error.message,
      errors: [{ pointer: '', detail: 'is not a JSON text' }],
    }
  }
  return { status: 500, detail: 'This is a fault of ours. The log has the cause under trace_id.' }
}

function sendProblem(facts: ProblemFacts, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  return reply
    .code(facts.status)
    .headers(facts.headers ?? {})
    .type('application/problem+json')
    .serializer((problem: unknown) => JSON.stringify(problem))
    .send(problemBody(facts, path(request), traceId(request)))
}

async function failing(checks: HttpServerOptions['checks'], log: Log): Promise<string[]> {
  const results = await Promise.all(
    Object.entries(checks).map(async ([name, check]) => {
      const { promise, reject } = Promise.withResolvers<never>()
      const timer = setTimeout(() => reject(new Error(`no answer in ${CHECK_MS_MAX} ms`)), CHECK_MS_MAX)
      try {
        await Promise.race([check(), promise])
        return null
      } catch (error) {
        log.warn({ event: 'check.failed', check: name, err: error })
        return name
      } finally {
        clearTimeout(timer)
      }
    }),
  )
  return results.filter((name) => name !== null)
}

function path(request: FastifyRequest): string {
  return request.url.split('?', 1)[0] ?? ''
}

const TRACEPARENT = /^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/

function traceparent(header: string | string[] | undefined): string {
  if (typeof header === 'string' && TRACEPARENT.test(header)) return header
  return `00-${randomBytes(16).toString('hex')}-${randomBytes(8).toString('hex')}-00`
}

function traceId(request: FastifyRequest): string {
  return request.traceparent.slice(3, 35)
}
