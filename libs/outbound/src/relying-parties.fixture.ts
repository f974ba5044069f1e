import { once } from 'node:events'
import { createServer as createHttp, type IncomingMessage, type RequestListener } from 'node:http'
import { createServer as createHttps, type ServerOptions } from 'node:https'
import { type AddressInfo, createServer as createTcp, type Server, type Socket } from 'node:net'
import type { Answer } from '@curfew/domain'
import { createGuardedClient, type GuardedClient, type GuardedClientOptions } from './guarded-client.ts'
import type { TlsIdentity } from './tls-identity.ts'

// Relying parties of every kind on loopback, and clients that may reach them. Each test ends with `cleanUp`.

export const LOOPBACK = ['127.0.0.0/8']

const cleanups: (() => unknown)[] = []
export async function cleanUp(): Promise<void> {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
}

export function client(options: Partial<GuardedClientOptions> = {}): GuardedClient {
  const created = createGuardedClient({ allowedNetworks: LOOPBACK, ...options })
  cleanups.push(() => created.close())
  return created
}

/** @returns the port. */
export async function listening(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  cleanups.push(() => server.close())
  return (server.address() as AddressInfo).port
}

/** @returns the port. */
export function http(listener: RequestListener): Promise<number> {
  const server = createHttp(listener)
  cleanups.push(() => server.closeAllConnections())
  return listening(server)
}

/** Answers 200. @returns the port. */
export function https(
  options: ServerOptions,
  onRequest: (request: IncomingMessage) => void = () => undefined,
): Promise<number> {
  const server = createHttps(options, (request, response) => {
    onRequest(request)
    response.end()
  })
  server.on('tlsClientError', (_error, socket) => socket.destroy())
  cleanups.push(() => server.closeAllConnections())
  return listening(server)
}

/** A server of raw bytes. @returns the port. */
export function tcp(onConnection: (socket: Socket) => void): Promise<number> {
  const sockets = new Set<Socket>()
  const server = createTcp((socket) => {
    sockets.add(socket)
    socket.on('error', () => socket.destroy())
    onConnection(socket)
  })
  cleanups.push(() => {
    for (const socket of sockets) socket.destroy()
  })
  return listening(server)
}

export interface Overrides {
  readonly uri?: string
  readonly timeoutMs?: number
  readonly allowedNetworks?: readonly string[] | null
  readonly grantedNetworks?: readonly string[]
  readonly tls?: TlsIdentity | null
}

/** Posts a token to `http://127.0.0.1:port/logout`, unless overridden. */
export function send(
  guarded: GuardedClient,
  port: number,
  { tls = null, ...overrides }: Overrides = {},
): Promise<Answer> {
  return guarded.post({
    uri: `http://127.0.0.1:${port}/logout`,
    body: 'logout_token=a.b.c',
    headers: {
      'content-type': 'application/x-www-form-urlencoded',
      accept: 'application/json',
      'user-agent': 'curfew',
    },
    timeoutMs: 5_000,
    allowedNetworks: null,
    ...overrides,
    tls,
  })
}
