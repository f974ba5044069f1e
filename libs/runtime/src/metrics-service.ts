import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type AddressLimits, createAddressLimits } from './address-limits.ts'
import { createExposition, type Exposition } from './exposition.ts'
import { SAFE_HEADERS } from './http-errors.ts'
import { aborted, type Service } from './lifecycle.ts'
import type { Log } from './log.ts'
import type { Metrics } from './metrics.ts'
import { PROBLEM_MEDIA_TYPE } from './problem.ts'

export interface MetricsServiceOptions {
  readonly metrics: Metrics
  readonly host: string
  readonly port: number
  readonly log: Log
  readonly onListening?: (url: string) => void
  /** Called when the socket listens. */
  readonly onBound?: (place: { readonly address: string; readonly port: number }) => void
}

/** The separate listener for `/metrics`, if there is one. @param port null if there is none. */
export function metricsServices({
  port,
  ...options
}: Omit<MetricsServiceOptions, 'port'> & { readonly port: number | null }): readonly Service[] {
  return port === null ? [] : [metricsService({ ...options, port })]
}

/** Serves only `/metrics`, on its own port, until the process stops. */
export function metricsService({
  metrics,
  host,
  port,
  log,
  onListening,
  onBound,
}: MetricsServiceOptions): Service {
  return {
    name: 'metrics',
    async run({ stopping, ready }) {
      const expose = createExposition(metrics)
      const limits = createAddressLimits()
      const server = createServer((request, response) => void answer(request, response, expose, limits))
      server.listen(port, host)
      // Rejects if the port is in use.
      await once(server, 'listening')
      const { address, port: bound, family } = server.address() as AddressInfo
      const url = `http://${family === 'IPv6' ? `[${address}]` : address}:${bound}`
      log.info({ event: 'metrics.listening', url })
      onBound?.({ address, port: bound })
      onListening?.(url)
      ready()
      await aborted(stopping)
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  expose: Exposition,
  limits: AddressLimits,
): Promise<void> {
  request.resume()
  const refuse = (status: number, title: string, detail: string, headers: Record<string, string> = {}) =>
    response
      .writeHead(status, { ...SAFE_HEADERS, ...headers, 'content-type': PROBLEM_MEDIA_TYPE })
      .end(JSON.stringify({ type: 'about:blank', title, status, detail }))
  const [path] = (request.url ?? '').split('?', 1)
  if (path !== '/metrics') {
    refuse(404, 'Not Found', 'This port serves only /metrics.')
    return
  }
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    refuse(405, 'Method Not Allowed', 'Read /metrics with GET or HEAD.', { allow: 'GET, HEAD' })
    return
  }
  const waitMs = limits.take(request.socket.remoteAddress ?? '')
  if (waitMs > 0) {
    refuse(429, 'Too Many Requests', 'This address has made too many requests in the last seconds.', {
      'retry-after': String(Math.ceil(waitMs / 1_000)),
    })
    return
  }
  try {
    const { contentType, body } = await expose()
    response.writeHead(200, { ...SAFE_HEADERS, 'content-type': contentType }).end(body)
  } catch {
    refuse(500, 'Internal Server Error', 'The metrics cannot be rendered.')
  }
}
