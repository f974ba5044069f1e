import type { Socket } from 'node:net'
import { CurfewError, QueryTimeoutError } from '@curfew/domain'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { type AjvError, faultsOf } from './faults.ts'
import { unsupported } from './json-body.ts'
import type { Log } from './log.ts'
import { PROBLEM_MEDIA_TYPE, type Problem, ProblemError, type ProblemFacts, problemBody } from './problem.ts'
import { createThrottle } from './seldom.ts'
import { newTraceparent, parseTraceparent, traceIdOf } from './telemetry/traceparent.ts'

/** Largest body that is read, in bytes. */
export const BODY_BYTES_MAX = 1024 * 1024
/** The Retry-After of a 503, in seconds. */
const RETRY_AFTER_S = 2

/** On every answer, unless its route overrides them: an answer is private to its caller and has exactly its media type. */
export const SAFE_HEADERS = { 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' } as const

/** An error while a request is handled: thrown by us, by Fastify, or because of a bug. */
interface Thrown {
  readonly code?: unknown
  readonly statusCode?: unknown
  readonly message?: unknown
  readonly validation?: readonly AjvError[]
  readonly validationContext?: unknown
}

/**
 * Creates the function that answers an error as a problem. The cause of an internal error goes to the log, and not to the caller.
 * While a service is unavailable every request fails alike, so each route and cause is logged once a minute, without a stack.
 */
export function createErrorAnswer(
  log: Log,
): (error: unknown, request: FastifyRequest, reply: FastifyReply) => FastifyReply {
  const isTime = createThrottle()
  return (error, request, reply) => {
    const facts = factsOf(error, request)
    const { status } = facts
    const { method } = request
    const route = request.routeOptions.url ?? null
    const line = {
      event: 'request.failed',
      method,
      route,
      status,
      trace_id: traceIdOf(traceparentOf(request)),
    }
    if (status === 503 && error instanceof Error) {
      const code = error instanceof CurfewError ? error.code : error.name
      const level = isTime(`${code} ${method} ${route}`) ? 'warn' : 'debug'
      log[level]({ ...line, code, reason: error.message })
    } else if (status >= 500) log[status === 504 ? 'warn' : 'error']({ ...line, err: error })
    return sendProblem(facts, request, reply)
  }
}

export function sendProblem(facts: ProblemFacts, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  return reply
    .code(facts.status)
    .headers({ ...SAFE_HEADERS, ...facts.headers })
    .type(PROBLEM_MEDIA_TYPE)
    .serializer((problem: unknown) => JSON.stringify(problem))
    .send(problemBody(facts, pathOf(request), traceIdOf(traceparentOf(request))))
}

/** The problem body for `error`, when one element of many is refused. */
export function problemOf(error: ProblemError, request: FastifyRequest): Problem {
  return problemBody(error.problem, pathOf(request), traceIdOf(traceparentOf(request)))
}

/** The W3C trace context for work that this request starts: the caller's, or a new one. */
export function traceparentOf(request: FastifyRequest): string {
  request.traceparent ??= parseTraceparent(request.headers.traceparent) ?? newTraceparent()
  return request.traceparent
}

export function pathOf(request: FastifyRequest): string {
  return request.url.split('?', 1)[0] ?? ''
}

/** Answers bytes that are not HTTP, or that came too slowly or too large to become a request. */
export function answerClientError(error: Error & { readonly code?: string }, socket: Socket): void {
  // The connection is gone, so there is nothing to answer on.
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy()
    return
  }
  const [status, phrase, detail] = CLIENT_ERRORS[error.code ?? ''] ?? NOT_HTTP
  const body = JSON.stringify({ type: 'about:blank', title: phrase, status, detail })
  socket.end(
    `HTTP/1.1 ${status} ${phrase}\r\nContent-Type: ${PROBLEM_MEDIA_TYPE}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n` +
      `Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n${body}`,
    () => socket.destroy(),
  )
}

type ClientError = readonly [status: number, phrase: string, detail: string]
const NOT_HTTP: ClientError = [400, 'Bad Request', 'The bytes are not a valid HTTP request.']
const CLIENT_ERRORS: Readonly<Record<string, ClientError>> = {
  HPE_HEADER_OVERFLOW: [431, 'Request Header Fields Too Large', 'The header fields are larger than 16 KiB.'],
  ERR_HTTP_REQUEST_TIMEOUT: [408, 'Request Timeout', 'The request did not arrive in time.'],
}

const PLACES: Readonly<Record<string, string>> = {
  body: 'body',
  querystring: 'query',
  params: 'path',
  headers: 'headers',
}

function factsOf(error: unknown, request: FastifyRequest): ProblemFacts {
  if (error instanceof ProblemError) return error.problem
  const isRead = request.method === 'GET' || request.routeOptions.config.load === 'read'
  if (error instanceof QueryTimeoutError && isRead) {
    return {
      status: 504,
      title: 'Query took too long',
      detail:
        'The ledger needs more time for this query than a read may take. Narrow it: name the issuer and the client, a shorter time, or a smaller limit.',
    }
  }
  if (error instanceof CurfewError && error.code.endsWith('_UNAVAILABLE')) {
    return {
      status: 503,
      detail: 'A service that this request needs does not answer. Send the request again in a moment.',
      headers: { 'retry-after': String(RETRY_AFTER_S) },
    }
  }
  const { code, statusCode, message, validation, validationContext }: Thrown = Object(error)
  if (Array.isArray(validation)) {
    return {
      status: 400,
      title: `Invalid ${PLACES[String(validationContext)] ?? 'request'}`,
      detail: 'Correct the faults in errors and send the request again.',
      errors: faultsOf(validation),
    }
  }
  switch (code) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return { status: 413, detail: `A body may have at most ${request.routeOptions.bodyLimit} bytes.` }
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return unsupported(request).problem
    case 'FST_ERR_BAD_URL':
      return { status: 400, title: 'Invalid path', detail: 'The path is not percent-encoded UTF-8.' }
    case 'FST_ERR_MAX_PARAM_LENGTH':
      return { status: 414, detail: 'A segment of the path is too long.' }
    case 'ECONNRESET':
      // The client is gone and does not read this answer.
      return { status: 400, detail: 'The connection ended before the body did.' }
  }
  const status = Number(statusCode)
  if (String(code).startsWith('FST_') && status >= 400 && status < 500)
    return { status, detail: `${message}.` }
  return { status: 500, detail: 'This is an error in Curfew. Its log has the cause under trace_id.' }
}
