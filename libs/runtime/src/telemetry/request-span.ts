import type { FastifyRequest } from 'fastify'
import { type Span, startSpan } from './spans.ts'
import { parseTraceparent } from './traceparent.ts'

/** Routes that probes and scrapers read every few seconds. */
const WITHOUT_SPAN: ReadonlySet<string | undefined> = new Set(['/healthz', '/readyz', '/metrics'])

/**
 * Starts the span of a request, below the span of its caller. It names the route, and never the path or the query: these hold the
 * names of clients and of subjects.
 */
export function startRequestSpan(request: FastifyRequest): void {
  const { url: route } = request.routeOptions
  if (WITHOUT_SPAN.has(route)) return
  const { method, protocol } = request
  const span: Span = startSpan({
    name: route === undefined ? method : `${method} ${route}`,
    role: 'server',
    parent: parseTraceparent(request.headers.traceparent),
    attributes: () => ({
      'http.request.method': method,
      'url.scheme': protocol,
      ...(route !== undefined && { 'http.route': route }),
    }),
  })
  request.traceparent = span.traceparent
  if (span.recorded) request.span = span
}

/** Ends the span of a request with the status of its answer. Only a fault of the server is an error. */
export function endRequestSpan({ span }: FastifyRequest, status: number): void {
  span?.end({ 'http.response.status_code': status }, status >= 500 ? String(status) : null)
}
