import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
} from 'node:http'
import swagger from '@fastify/swagger'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyRequest,
  type FastifySchema,
  fastify,
  type RawReplyDefaultExpression,
  type RawRequestDefaultExpression,
  type RawServerDefault,
  type RouteOptions,
} from 'fastify'
import {
  authorize,
  chargeForElements,
  enforceAccess,
  PUBLIC,
  payUpFront,
  type RouteAccess,
  type Spending,
  spendingOf,
} from './access.ts'
import { createAddressLimits, ownerOf } from './address-limits.ts'
import type { Authenticate, Credential } from './credentials.ts'
import { matchesEntityTag } from './entity-tags.ts'
import { createExposition, type Exposition } from './exposition.ts'
import { type Checks, createReadiness, type Readiness } from './health.ts'
import { answerClientError, BODY_BYTES_MAX, createErrorAnswer, pathOf, SAFE_HEADERS } from './http-errors.ts'
import { readOnlyJson } from './json-body.ts'
import { aborted, type Service } from './lifecycle.ts'
import type { Log } from './log.ts'
import type { Metrics } from './metrics.ts'
import { type ApiDescription, createDocument, documentOptions } from './openapi.ts'
import { addPages, isPage } from './pages.ts'
import { ProblemError } from './problem.ts'
import { createReadLimits, type ReadLimits, type ReadLimitsOptions } from './read-limits.ts'
import { createRequestLimits, type RequestLimits } from './request-limits.ts'
import { endRequestSpan, startRequestSpan } from './telemetry/request-span.ts'
import type { Span } from './telemetry/spans.ts'
import { bodyAjv, bounded, closed, closedBody, textAjv } from './validator.ts'

declare module 'fastify' {
  interface FastifyContextConfig extends Partial<RouteAccess> {}
  interface FastifyRequest {
    /** The caller; null on public routes. */
    credential: Credential | null
    /** The budgets of the caller; null on public routes. */
    spending: Spending | null
    /** The number of bytes of the body that were read. */
    bodyBytes: number
    /** The units that were paid for the size of the body. */
    bodyUnits: number
    /** Set on first use: see `traceparentOf`. */
    traceparent: string | null
    /** The span of the request; null if none is recorded. */
    span: Span | null
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
  /** Absent if the service has no API of its own. It then has no `/docs`. */
  readonly api?: ApiDescription
  readonly log: Log
  readonly metrics: Metrics
  readonly authenticate: Authenticate
  /** The checks of this process's readiness, by name. */
  readonly checks: Checks
  /** Checks that fail whenever another one fails, with the name of that one. */
  readonly checksNeed?: Readonly<Record<string, string>>
  /** Requests per second for credentials without their own rate. Default null: no limit. */
  readonly requestsPerSecond?: number | null
  /** The limits of concurrent reads. */
  readonly reads?: ReadLimitsOptions
  /** Whether `/metrics` has its own listener (`metricsServices`) and is not served here. Default false. */
  readonly metricsApart?: boolean
  /** Answers some requests before the kit reads them. Default: none. */
  readonly first?: FirstAnswers
  /** Proxies whose `X-Forwarded-*` headers are trusted: addresses or CIDRs, comma-separated. Default none. */
  readonly trustProxy?: string
}

/** Answers paths that are asked very often, by any method, without the cost and the checks of the kit. */
export interface FirstAnswers {
  /** @returns whether it answers this request. If not, the kit does. */
  answer(request: IncomingMessage, response: ServerResponse): boolean
  /** Most bytes of the header fields of a request. */
  readonly headerBytesMax: number
}

/** Longest that a request may take to arrive, in milliseconds. */
const REQUEST_MS_MAX = 30_000
/** How long an idle connection is kept, in milliseconds: the default of Fastify. */
const KEEP_ALIVE_MS = 72_000
/** Longest that a check may take, in milliseconds. */
const CHECK_MS_MAX = 2_000
/** How long a result without failures is reused, in milliseconds, so that not every probe costs statements. */
const READY_KEPT_MS = 1_000
const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'] as const

const NO_API: ApiDescription = { description: '', tags: [], url: null }
const BODIES = `A request body has at most ${BODY_BYTES_MAX} bytes, unless its operation states another limit. An optional member that is null counts as absent, unless its description gives null a meaning.`

function withBodies(api: ApiDescription): ApiDescription {
  return { ...api, description: `${api.description}\n\n${BODIES}`.trim() }
}

/**
 * Makes a server with everything except the service's own routes: strictly validated JSON, bearer authentication by the scope
 * of each route (RFC 6750), problems (RFC 9457), `/`, `/docs`, `/openapi.json`, `/healthz`, `/readyz` and `/metrics`. It throws when a route
 * is registered without `config: { scope }`.
 */
export async function createHttpServer(options: HttpServerOptions): Promise<HttpServer> {
  const {
    title,
    api,
    log,
    metrics,
    authenticate,
    checks,
    checksNeed,
    trustProxy,
    requestsPerSecond = null,
  } = options
  // A flood of requests to public pages must not fill the places of credentials.
  const reads = { ofCredentials: createReadLimits(options.reads), ofPublic: createReadLimits(options.reads) }
  const limits = createRequestLimits({
    perSecond: requestsPerSecond,
    monotonicMs: () => performance.now(),
  })
  const answerError = createErrorAnswer(log)
  const life = { closing: false }
  const server: HttpServer = fastify({
    bodyLimit: BODY_BYTES_MAX,
    requestTimeout: REQUEST_MS_MAX,
    // Requests on open connections are still served while we stop: the service behind them ends after the server.
    return503OnClosing: false,
    forceCloseConnections: 'idle',
    routerOptions: { maxParamLength: 2_048 },
    clientErrorHandler: answerClientError,
    frameworkErrors: (error, request, reply) => void answerError(error, request as FastifyRequest, reply),
    ...(trustProxy !== undefined && { trustProxy }),
    ...(options.first !== undefined && { serverFactory: withFirst(options.first, life) }),
  }).withTypeProvider<TypeBoxTypeProvider>()

  server.setValidatorCompiler(({ schema, httpPart }) =>
    (httpPart === 'body' ? bodyAjv : textAjv).compile(schema as object),
  )
  // The compiler checks answers against their schemas, so they are serialized without another check.
  server.setSerializerCompiler(() => (answer) => JSON.stringify(answer))
  readOnlyJson(server)
  server.decorateRequest('credential', null)
  server.decorateRequest('spending', null)
  server.decorateRequest('bodyBytes', 0)
  server.decorateRequest('bodyUnits', 0)
  server.decorateRequest('traceparent', null)
  server.decorateRequest('span', null)
  server.addHook('preClose', async () => {
    life.closing = true
  })
  addHooks(server, { metrics, authenticate, limits, reads, life })
  server.setErrorHandler(answerError)
  await server.register(swagger, documentOptions(title, withBodies(api ?? NO_API)))
  const document = createDocument(() => server.swagger())
  await addPages(server, { title, document, hasApi: api !== undefined })
  addOwnRoutes(server, {
    document,
    expose: options.metricsApart === true ? null : createExposition(metrics),
    checks: { checks: Object.keys(checks), ...(checksNeed !== undefined && { needs: checksNeed }) },
    readiness: createReadiness(checks, { log, deadlineMs: CHECK_MS_MAX, keptMs: READY_KEPT_MS }),
    life,
  })
  return server
}

/** Makes a server of Node.js that asks `first` before it hands a request to Fastify. */
function withFirst({ answer, headerBytesMax }: FirstAnswers, life: Life) {
  return (handle: RequestListener): Server => {
    const limits = { requestTimeout: REQUEST_MS_MAX, keepAliveTimeout: KEEP_ALIVE_MS }
    return createServer({ ...limits, maxHeaderSize: headerBytesMax }, (request, response) => {
      if (life.closing) response.setHeader('connection', 'close')
      if (!answer(request, response)) handle(request, response)
    })
  }
}

/** A 404, or a 405 with the methods of the path. */
function noRoute(server: HttpServer, request: FastifyRequest): ProblemError {
  const path = pathOf(request)
  const allowed = METHODS.filter((method) => server.findRoute({ method, url: path }) !== null)
  const detail = `There is no ${request.method} ${path}.`
  if (allowed.length === 0) return new ProblemError({ status: 404, detail })
  return new ProblemError({ status: 405, detail, headers: { allow: allowed.join(', ') } })
}

interface Life {
  readonly closing: boolean
}

function addHooks(
  server: HttpServer,
  {
    metrics,
    authenticate,
    limits,
    reads,
    life,
  }: Pick<HttpServerOptions, 'metrics' | 'authenticate'> & {
    limits: RequestLimits
    reads: RouteReads
    life: Life
  },
): void {
  const durations = metrics.histogram(
    'http_request_duration_seconds',
    'Time from a request to its answer.',
    [0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 30],
    ['method', 'route', 'status'],
  )
  server.addHook('onRoute', (route) => {
    if (isPage(route.url)) route.config = { ...route.config, scope: PUBLIC }
    const { scope, access } = route.config ?? {}
    if (scope === undefined) throw new Error(`route ${route.url} declares no scope`)
    if (scope !== PUBLIC && access === undefined) throw new Error(`route ${route.url} declares no access`)
    if (access === 'path' && !route.url.includes('/:issuer'))
      throw new Error(`route ${route.url} has access 'path', but its path names no issuer`)
    if (route.schema !== undefined) route.schema = strict(route.schema)
    limitReads(route, reads)
  })
  server.addHook('onRequest', async (request, reply) => {
    reply.headers(SAFE_HEADERS)
    startRequestSpan(request)
    if (request.url.includes('%00')) {
      throw new ProblemError({
        status: 400,
        title: 'Invalid path',
        detail: 'The path or query contains U+0000.',
      })
    }
    // Checked here, because Fastify reads and parses the body before it calls its handler of unknown routes.
    if (request.is404) throw noRoute(server, request)
    const { scope } = request.routeOptions.config
    if (scope === undefined || scope === PUBLIC) return
    request.credential = await authorize(request, scope, {
      authenticate,
      pay(credential) {
        request.spending = spendingOf(credential, limits)
        payUpFront(request, request.spending)
      },
    })
    enforceAccess(request, request.credential)
  })
  server.addHook('preValidation', async (request) => chargeForElements(request))
  server.addHook('onSend', (_request, reply, payload, done) => {
    // Otherwise a connection that was busy when we began to stop would stay open until its client closes it.
    if (life.closing) reply.header('connection', 'close')
    done(null, payload)
  })
  server.addHook('onResponse', (request, reply, done) => {
    const route = request.routeOptions.url ?? 'none'
    durations.observe({ method: request.method, route, status: reply.statusCode }, reply.elapsedTime / 1_000)
    endRequestSpan(request, reply.statusCode)
    done()
  })
}

function addOwnRoutes(
  server: HttpServer,
  {
    document,
    expose,
    checks,
    readiness,
    life,
  }: {
    document: ReturnType<typeof createDocument>
    expose: Exposition | null
    checks: { readonly checks: readonly string[]; readonly needs?: Readonly<Record<string, string>> }
    readiness: () => Promise<Readiness>
    life: Life
  },
): void {
  const hidden = { schema: { hide: true }, config: { scope: PUBLIC } }
  const limits = createAddressLimits()
  const limited = { ...hidden, onRequest: async ({ ip }: FastifyRequest) => refuseTooMany(limits.take(ip)) }
  server.get('/openapi.json', limited, async (request, reply) => {
    const { etag, body } = document()
    reply.headers({ etag, 'cache-control': 'no-cache' })
    if (matchesEntityTag(request.headers['if-none-match'], etag)) return reply.code(304).send()
    return reply.type('application/json; charset=utf-8').serializer(unchanged).send(body)
  })
  server.get('/healthz', hidden, async () => ({ status: 'alive' }))
  server.get('/readyz', hidden, async (_request, reply) => {
    if (life.closing)
      return reply.code(503).send({ status: 'stopping', unavailable: [], degraded: [], ...checks })
    const { unavailable, degraded } = await readiness()
    return reply
      .code(unavailable.length === 0 ? 200 : 503)
      .send({ status: unavailable.length === 0 ? 'ready' : 'not ready', unavailable, degraded, ...checks })
  })
  if (expose === null) return
  server.get('/metrics', limited, async (_request, reply) => {
    const { contentType, body } = await expose()
    return reply.type(contentType).serializer(unchanged).send(body)
  })
}

const unchanged = (text: string) => text

/** @throws a 429 problem if `waitMs` is not 0. */
function refuseTooMany(waitMs: number): void {
  if (waitMs === 0) return
  throw new ProblemError({
    status: 429,
    detail: 'This address has made too many requests in the last seconds.',
    headers: { 'retry-after': String(Math.ceil(waitMs / 1_000)) },
  })
}

/** Serves until the process stops. Then it accepts no more connections and lets requests in flight finish. */
export function httpService(
  server: HttpServer,
  {
    host,
    port,
    log,
    onListening,
    onBound,
  }: {
    host: string
    port: number
    log: Log
    onListening?: (url: string) => void
    /** Called for each listening socket. */
    onBound?: (place: { readonly address: string; readonly port: number }) => void
  },
): Service {
  return {
    name: 'http',
    async run({ stopping, abandoning, ready }) {
      const url = await server.listen({ host, port })
      log.info({ event: 'server.listening', url })
      for (const place of server.addresses()) if (typeof place === 'object') onBound?.(place)
      onListening?.(url)
      ready()
      await aborted(stopping)
      void aborted(abandoning).then(() => server.server.closeAllConnections())
      await server.close()
    },
  }
}

interface RouteReads {
  readonly ofCredentials: ReadLimits
  readonly ofPublic: ReadLimits
}

/** Handlers that are already limited: the handler of a GET comes a second time, for its HEAD. */
const limited = new WeakSet<RouteOptions['handler']>()

/** Applies the limits of concurrent reads to a route that reads. */
function limitReads(route: RouteOptions, reads: RouteReads): void {
  const { handler, config, method } = route
  const isRead = config?.scope !== PUBLIC && (method === 'GET' || method === 'HEAD')
  if ((config?.load ?? (isRead ? 'read' : 'own')) === 'own' || limited.has(handler)) return
  route.handler = function limitedRead(request, reply) {
    const [limits, caller] =
      request.credential === null
        ? [reads.ofPublic, ownerOf(request.ip)]
        : [reads.ofCredentials, request.credential.name]
    return limits.run(caller, async (freeShared) => {
      // A stream is as fast as its client, and reads page by page, so it need not keep a shared place.
      reply.raw.once('pipe', freeShared)
      return handler.call(this, request, reply)
    })
  }
  limited.add(route.handler)
}

/** Makes a schema strict: unknown members are refused. In a body, null means that an optional member is absent. A route without a query schema accepts no parameters. */
function strict(schema: FastifySchema): FastifySchema {
  const { body, querystring, hide } = schema
  const query = querystring ?? (hide === true ? undefined : { type: 'object', properties: {} })
  return {
    ...schema,
    ...(body !== undefined && { body: closedBody(body as object) }),
    ...(query !== undefined && { querystring: closed(bounded(query as object)) }),
  }
}
