import { setImmediate as nextRound } from 'node:timers/promises'
import { getCACertificates, TLSSocket } from 'node:tls'
import {
  type Answer,
  accessName,
  effectiveNetworks,
  type InspectedTls,
  type NetworkAccess,
  type TransportFailure,
} from '@curfew/domain'
import { Agent, type Dispatcher, errors } from 'undici'
import { createAllowedNetworks, mayDial } from './addresses.ts'
import { createGuardedConnector, createSharedLookup } from './connector.ts'
import { failed } from './failures.ts'
import { type Lookup, systemLookup } from './lookup.ts'
import { HEADERS_BYTES_MAX } from './network-failures.ts'
import { createOwnAddresses, type OwnAddresses, ownAddress } from './own-addresses.ts'
import type { PortRange } from './ports.ts'
import { redirectTarget } from './redirect.ts'
import { unusable } from './tls-failures.ts'
import { fingerprintOf, secureContextOf, type TlsIdentity } from './tls-identity.ts'

export interface GuardedClientOptions {
  /** CIDRs of private networks where RPs of this deployment may live. Networks granted to a single RP are added to them. */
  readonly allowedNetworks: readonly string[]
  /** The addresses of this deployment itself, which are never dialled. Default: none. */
  readonly own?: OwnAddresses
  /** Longest time for lookup, TCP and TLS of a connection together, in milliseconds. Default 3,000. */
  readonly connectTimeoutMs?: number
  /** Most bytes that are read of an answer's body. Default 16 KiB. */
  readonly responseBytesMax?: number
  /** Most connections to one origin. Default 256: usually the RP's own concurrency limit is reached first. */
  readonly connectionsPerOrigin?: number
  /** How long an idle connection is kept if the RP does not say, in milliseconds. Default 4,000: less than most servers. */
  readonly keepAliveMs?: number
  /** Ports that may be dialled. Default null: every port. */
  readonly allowedPorts?: readonly PortRange[] | null
  readonly lookup?: Lookup
  /** Called for each request that got no answer, with the class of its failure. Default: nothing. */
  readonly onFailure?: (failure: TransportFailure | 'not_allowed') => void
  /** Certificates (PEM) that are trusted in addition to Node's own. */
  readonly ca?: readonly string[]
}

export interface GetRequest extends NetworkAccess {
  /** Absolute. Its path and query are sent byte for byte. */
  readonly uri: string
  readonly headers: Readonly<Record<string, string>>
  /** From this call to the end of the answer, in milliseconds. */
  readonly timeoutMs: number
  /** The RP's own CA and our certificate for it. Default null: Node's own CAs, and no certificate. */
  readonly tls?: TlsIdentity | null
  /** Most bytes that are read of the answer's body. Default: the client's limit. */
  readonly responseBytesMax?: number
  /** Whether the answer includes its headers. Default false. */
  readonly captureHeaders?: boolean
}

export interface PostRequest extends GetRequest {
  readonly body: string
}

export interface SendRequest extends GetRequest {
  /** In upper case. */
  readonly method: string
  /** Null for no body. */
  readonly body: string | null
}

/**
 * Makes all outgoing HTTP requests. It dials public addresses over verified TLS, and other addresses only in allowed networks.
 * Each address is checked when it is dialled, so a name that resolves differently later gains nothing. The client follows no
 * redirect, uses no proxy, decompresses nothing, repeats nothing, and reads no more than its limits.
 */
export interface GuardedClient {
  /**
   * Never rejects because of the network or the peer. Once a status has arrived, it is the answer. The body may be incomplete:
   * cut at the cap, at the deadline, or by the peer.
   */
  post(request: PostRequest): Promise<Answer>
  /** Same as `post`, without a body. */
  get(request: GetRequest): Promise<Answer>
  /** Same as `post`, by any method. */
  send(request: SendRequest): Promise<Answer>
  /** Connects without a request. @returns null if no verified TLS connection was made. */
  inspectTls(request: Pick<GetRequest, 'uri' | 'tls'> & NetworkAccess): Promise<InspectedTls | null>
  /** Ends every connection. Requests under way end with `connection_reset`. */
  close(): Promise<void>
}

/** Most pairs of networks and TLS identity with open connections. The least recently used one is closed first. */
const AGENTS_MAX = 256
/** Longest time that an idle connection is kept, whatever the RP says, in milliseconds. */
const KEEP_ALIVE_MS_MAX = 60_000

export function createGuardedClient(options: GuardedClientOptions): GuardedClient {
  const { connectTimeoutMs = 3_000, responseBytesMax = 16 * 1024 } = options
  const { connectionsPerOrigin = 256, keepAliveMs = 4_000, allowedPorts = null } = options
  const { own = createOwnAddresses() } = options
  const lookup = createSharedLookup(options.lookup ?? systemLookup)
  // The option `ca` replaces Node's own list, so the list is included.
  const ca = options.ca === undefined ? null : [...getCACertificates('default'), ...options.ca]
  const contextOfMost = secureContextOf(null, { ca })
  // A connection that one RP's networks allowed, or that shows its certificate, must not serve another RP. So each pair of
  // networks and TLS identity has its own connections.
  const agents = new Map<string, Connections>()
  const retired = new Set<Agent>()
  let closed = false
  const ceiling = createAllowedNetworks(options.allowedNetworks)

  function connectorFor(
    { tls = null, ...access }: Pick<GetRequest, 'tls'> & NetworkAccess,
    onConnected?: (origin: string, address: string) => void,
  ) {
    const secureContext = tls === null ? contextOfMost : secureContextOf(tls, { ca })
    const allowed = createAllowedNetworks(effectiveNetworks(access, options.allowedNetworks))
    return createGuardedConnector({
      ...{ allowed, lookup, secureContext, connectTimeoutMs, allowedPorts, own },
      ...(onConnected !== undefined && { onConnected }),
    })
  }

  function connectionsFor(request: GetRequest): Connections {
    const { tls = null } = request
    const networks = accessName(request)
    const name = tls === null ? networks : `${networks} ${fingerprintOf(tls)}`
    const known = agents.get(name)
    if (known !== undefined) {
      agents.delete(name)
      agents.set(name, known)
      return known
    }
    const restricted = new Set<string>()
    const connect = connectorFor(request, (origin, address) => {
      if (!mayDial(address, { allowed: ceiling, tls: true })) restricted.add(origin)
    })
    if (agents.size >= AGENTS_MAX) retireOldest()
    const agent = new Agent({
      connect,
      connections: connectionsPerOrigin,
      pipelining: 1,
      // With HTTP/2 allowed, a pool waits for its first connection before it opens a second.
      allowH2: false,
      keepAliveTimeout: keepAliveMs,
      keepAliveMaxTimeout: KEEP_ALIVE_MS_MAX,
      maxHeaderSize: HEADERS_BYTES_MAX,
      // Each request has its own deadline.
      headersTimeout: 0,
      bodyTimeout: 0,
    })
    const connections = { agent, restricted }
    agents.set(name, connections)
    return connections
  }

  function retireOldest(): void {
    for (const [name, { agent }] of agents) {
      agents.delete(name)
      retired.add(agent)
      // Its requests under way end first.
      agent.close(() => retired.delete(agent))
      return
    }
  }

  async function send(method: string, request: GetRequest, body: string | null): Promise<Answer> {
    const target = targetOf(request.uri)
    if (target === null) return NO_TARGET
    if (own.named(target.url)) return { kind: 'not_allowed', detail: ownAddress(target.origin) }
    // An answer that arrived on an idle connection must not count for this request. undici reads such bytes until the end of a
    // round of the event loop. The current round may have polled the connection before they arrived, the next one polls it again.
    await nextRound()
    if (closed) return failed(new errors.ClientDestroyedError(), target.url)
    let connections: Connections
    try {
      connections = connectionsFor(request)
    } catch (error) {
      // OpenSSL refuses the certificate or key. An older OpenSSL may have accepted it at registration.
      const detail = `the TLS settings for ${target.url.host} ${unusable(error)}: register curfew.tls again`
      return { kind: 'failure', failure: 'tls', detail }
    }
    const { timeoutMs, headers, captureHeaders = false } = request
    const sent = { ...target, timeoutMs, headers, captureHeaders, method, body }
    return dispatch(connections, sent, request.responseBytesMax ?? responseBytesMax)
  }

  async function observed(method: string, request: GetRequest, body: string | null): Promise<Answer> {
    const answer = await send(method, request, body)
    if (answer.kind !== 'response')
      options.onFailure?.(answer.kind === 'failure' ? answer.failure : 'not_allowed')
    return answer
  }

  return {
    post: (request) => observed('POST', request, request.body),
    get: (request) => observed('GET', request, null),
    send: (request) => observed(request.method, request, request.body),
    async inspectTls(request) {
      const url = URL.parse(request.uri)
      if (url?.protocol !== 'https:' || own.named(url)) return null
      try {
        return await inspect(connectorFor(request), url)
      } catch {
        // OpenSSL refuses our certificate or key, so there is no connection either.
        return null
      }
    },
    async close() {
      closed = true
      await Promise.all(
        [...[...agents.values()].map(({ agent }) => agent), ...retired].map((agent) => agent.destroy()),
      )
    },
  }
}

/** The open connections of one pair of networks and TLS identity. */
interface Connections {
  readonly agent: Agent
  /** Origins that were reached at a private address outside the deployment's networks. */
  readonly restricted: Set<string>
}

/** Reports the TLS version and the certificate's end of a new connection. */
function inspect(
  connect: ReturnType<typeof createGuardedConnector>,
  { hostname, host, port, protocol }: URL,
): Promise<InspectedTls | null> {
  const { promise, resolve } = Promise.withResolvers<InspectedTls | null>()
  // undici passes an IPv6 address to a connector without its brackets.
  const name = hostname.replace(/^\[|\]$/g, '')
  connect({ hostname: name, host, port, protocol }, (_error, socket) => {
    if (!(socket instanceof TLSSocket)) return resolve(null)
    const validTo = new Date(socket.getPeerCertificate().valid_to)
    const version = socket.getProtocol()
    socket.destroy()
    resolve(version === null || Number.isNaN(validTo.getTime()) ? null : { protocol: version, validTo })
  })
  return promise
}

function dispatch(
  { agent, restricted }: Connections,
  request: Target &
    Required<Pick<GetRequest, 'timeoutMs' | 'headers' | 'captureHeaders'>> & {
      readonly method: string
      readonly body: string | null
    },
  bodyBytesMax: number,
): Promise<Answer> {
  const { origin, path, method, headers } = request
  const { promise, resolve } = Promise.withResolvers<Answer>()
  let controller: Dispatcher.DispatchController | null = null
  let status: number | null = null
  let retryAfter: string | null = null
  let location: string | null = null
  let captured: Readonly<Record<string, string>> | null = null
  const chunks: Buffer[] = []
  let bytes = 0
  let ended = false

  const end = (without: Answer) => {
    if (ended) return
    ended = true
    clearTimeout(timer)
    if (status === null) return resolve(without)
    const body = bytes === 0 ? '' : Buffer.concat(chunks).toString('utf8')
    resolve({
      ...{ kind: 'response', status, retryAfter, body },
      ...(location !== null && { location }),
      ...(captured !== null && { headers: captured }),
      ...(restricted.has(origin) && { restricted: true }),
    })
  }
  const cut = (without: Answer) => {
    end(without)
    controller?.abort(new Error('cut'))
  }
  const timer = setTimeout(() => {
    const { host } = request.url
    const missing = controller === null ? `connection to ${host}` : `answer from ${host}`
    cut({ kind: 'failure', failure: 'timeout', detail: `no ${missing} within ${request.timeoutMs} ms` })
  }, request.timeoutMs)

  // Dispatches directly: `request()` would make a stream and a promise for a body that is mostly empty.
  agent.dispatch(
    { origin, path, method: method as Dispatcher.HttpMethod, headers, body: request.body },
    {
      onRequestStart(started) {
        controller = started
        if (ended) started.abort(new Error('too late'))
      },
      onResponseStart(_controller, statusCode, headers) {
        // An interim answer (RFC 9110 15.2) precedes the final one.
        if (statusCode < 200) return
        status = statusCode
        retryAfter = firstOf(headers['retry-after'])
        const redirect = statusCode < 400 && statusCode >= 300 ? firstOf(headers.location) : null
        location = redirect === null ? null : redirectTarget(redirect, request.url)
        if (request.captureHeaders) captured = textsOf(headers)
      },
      onResponseData(_controller, chunk) {
        const room = bodyBytesMax - bytes
        bytes += chunk.length
        chunks.push(chunk.length > room ? chunk.subarray(0, Math.max(room, 0)) : chunk)
        if (chunk.length > room) cut(NO_STATUS)
      },
      onResponseEnd: () => end(NO_STATUS),
      onResponseError: (_controller, error) => end(failed(error, request.url)),
    },
  )
  return promise
}

/** The value of a header that may come once. As in node:http, the first value counts. */
function firstOf(value: string | string[] | undefined): string | null {
  return (Array.isArray(value) ? value[0] : value) ?? null
}

/**
 * Each header as one text. Repeated headers are joined as in RFC 9110 5.3, but each `Set-Cookie` is a line of its own, because its
 * value may have a comma.
 */
function textsOf(headers: Readonly<Record<string, string | string[] | undefined>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers).map(([name, value = '']) => [
      name,
      Array.isArray(value) ? value.join(name === 'set-cookie' ? '\n' : ', ') : value,
    ]),
  )
}

const NO_STATUS: Answer = { kind: 'failure', failure: 'invalid_response', detail: 'the answer had no status' }

const NO_TARGET: Answer = {
  kind: 'not_allowed',
  detail: 'the URI is not an absolute http or https URI without user name',
}

interface Target {
  readonly url: URL
  readonly origin: string
  readonly path: string
}

/** Origin and path of a URI. The path with its query is sent as it was registered, not as a parser normalises it. */
function targetOf(uri: string): Target | null {
  const [, rest] = /^https?:\/\/[^/?#\\]+([^#]*)/i.exec(uri) ?? []
  const url = URL.parse(uri)
  if (rest === undefined || url === null || url.username !== '' || url.password !== '') return null
  return { url, origin: url.origin, path: rest.startsWith('/') ? rest : `/${rest}` }
}
