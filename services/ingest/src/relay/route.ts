import type { ClientId } from '@curfew/domain'
import { readLogoutForm } from '@curfew/rp'
import { type HttpServer, type Log, type Metrics, type RouteAccess, traceparentOf } from '@curfew/runtime'
import { Type } from 'typebox'
import { createTake, type Result, type TakeDeps } from './take.ts'

export interface RelayRouteDeps extends TakeDeps {
  readonly log: Log
  readonly metrics: Metrics
}

/** Largest body, in bytes: far above the size of a logout request. */
const BODY_BYTES_MAX = 64 * 1024

/** An error as Back-Channel Logout 2.8 wants it. */
const Refusal = Type.Object({
  error: Type.String({ description: 'invalid_request, or temporarily_unavailable if it may succeed later.' }),
  error_description: Type.String({ description: 'The fault and what to do.' }),
})
const Empty = Type.Null({ description: 'The logout is durable. The body is empty.' })

const SCHEMA = {
  operationId: 'postLogoutToken',
  tags: ['Relay'],
  summary: 'Post a logout token to the relay, as to the backchannel_logout_uri of a client.',
  params: Type.Object({
    issuer: Type.String({ description: 'Short name of the issuer.' }),
    client_id: Type.String({ description: 'The client that the token is addressed to, percent-encoded.' }),
  }),
  body: Type.Object({
    logout_token: Type.String({
      maxLength: 16_384,
      description: 'The logout token (OpenID Connect Back-Channel Logout 2.4).',
    }),
  }),
  response: { 200: Empty, 400: Refusal, 405: Refusal, 429: Refusal, 503: Refusal },
}

const OPTIONS = {
  bodyLimit: BODY_BYTES_MAX,
  config: {
    scope: 'public',
    accepts: ['application/x-www-form-urlencoded'],
  } satisfies Pick<RouteAccess, 'scope' | 'accepts'>,
}

interface Refused {
  readonly status: number
  readonly description: string
  readonly retryAfterMs?: number
}

type Request = Parameters<typeof traceparentOf>[0]
type Reply = Parameters<Parameters<HttpServer['setErrorHandler']>[0]>[2]

/**
 * `POST /relay/{issuer}/{client_id}`: takes the logout tokens of an identity provider in place of its client. It answers as a relying
 * party does (Back-Channel Logout 2.8), in all cases: identity providers read no other form.
 */
export function registerRelay(server: HttpServer, deps: RelayRouteDeps): void {
  const { log, metrics } = deps
  const take = createTake(deps)
  const counter = metrics.counter('relay_tokens_total', 'Logout tokens that the relay received, by result.', [
    'result',
  ])
  const count = (result: Result) => counter.inc({ result })

  // The scope has its own parsers and errors.
  void server.register(async (scope: HttpServer) => {
    scope.removeAllContentTypeParsers()
    scope.addContentTypeParser('*', { parseAs: 'string' }, async (_request: unknown, body: string) => body)
    scope.setValidatorCompiler(() => () => true)
    scope.setErrorHandler((error, request, reply) => {
      const fault = faultOf(error)
      if (fault !== null) {
        count('refused')
        return refuse(reply, { status: 400, description: fault })
      }
      count('unavailable')
      log.error({ event: 'relay.failed', route: request.routeOptions.url ?? null, err: error })
      return refuse(reply, {
        status: 503,
        description: 'Curfew failed; send the token again',
        retryAfterMs: 2_000,
      })
    })
    scope.post('/relay/:issuer/:client_id', { ...OPTIONS, schema: SCHEMA }, async (request, reply) => {
      const { issuer, client_id: clientId } = request.params
      return answer(request, reply, { issuer, clientId: clientId as ClientId })
    })
    // Some proxies decode the slashes of a client id.
    scope.post('/relay/*', { ...OPTIONS, schema: { hide: true } }, async (request, reply) => {
      const [issuer = '', ...rest] = String(Object(request.params)['*']).split('/')
      return answer(request, reply, { issuer, clientId: rest.join('/') as ClientId })
    })
    refuseOtherMethods(scope)
  })

  async function answer(
    request: Request,
    reply: Reply,
    path: { readonly issuer: string; readonly clientId: ClientId },
  ): Promise<Reply> {
    const form = readLogoutForm(request.headers['content-type'], textOf(request.body))
    if (!form.ok || path.clientId === '') {
      count('refused')
      return refuse(reply, { status: 400, description: form.ok ? NO_CLIENT : form.description })
    }
    const taken = await take({
      ...{ ...path, token: form.token, address: request.ip },
      fromCurfew: request.headers['user-agent'] === USER_AGENT,
      traceparent: traceparentOf(request),
    })
    count(taken.result)
    return taken.ok ? reply.code(200).send() : refuse(reply, taken)
  }
}

/** The name that Curfew gives itself in its requests to relying parties. */
const USER_AGENT = 'curfew'
const NO_CLIENT = 'the path is not /relay/{issuer}/{client_id}'

/** Refuses other methods in the form that identity providers read. */
function refuseOtherMethods(scope: HttpServer): void {
  const method = scope.supportedMethods.filter((name) => name !== 'POST' && name !== 'HEAD')
  scope.route({
    ...{ url: '/relay/*', method, config: { scope: 'public' }, schema: { hide: true } },
    handler: (_request, reply) => {
      reply.header('allow', 'POST')
      return refuse(reply, { status: 405, description: 'the relay answers only POST' })
    },
  })
}

function refuse(reply: Reply, { status, description, retryAfterMs }: Refused): Reply {
  if (retryAfterMs !== undefined) reply.header('retry-after', String(Math.ceil(retryAfterMs / 1_000)))
  const error = status === 429 || status === 503 ? 'temporarily_unavailable' : 'invalid_request'
  return reply
    .code(status)
    .header('cache-control', 'no-store')
    .type('application/json')
    .serializer((body: unknown) => JSON.stringify(body))
    .send({ error, error_description: description })
}

function textOf(body: unknown): string {
  return typeof body === 'string' ? body : ''
}

/** The fault of a request that could not be read; null if the fault is Curfew's own. */
function faultOf(error: unknown): string | null {
  const { code, statusCode, problem }: ReadError = Object(error)
  if (code === 'FST_ERR_CTP_BODY_TOO_LARGE') return `the body has more than ${BODY_BYTES_MAX} bytes`
  const status = Number(problem?.status ?? statusCode)
  return status >= 400 && status < 500 ? 'the request cannot be read' : null
}

interface ReadError {
  readonly code?: unknown
  readonly statusCode?: unknown
  readonly problem?: { readonly status: number }
}
