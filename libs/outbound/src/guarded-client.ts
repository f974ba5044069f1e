import { type LookupAddress, lookup as systemLookup } from 'node:dns'
import { isIP } from 'node:net'
import type { Answer, TransportFailure } from '@curfew/domain'
import { Agent, buildConnector, type Dispatcher } from 'undici'
import { type AllowedNetworks, createAllowedNetworks, mayDial } from './addresses.ts'

/** Resolves a name to all its addresses. The system's own unless a test hands in another. */
export type Lookup = (
  hostname: string,
  callback: (error: NodeJS.ErrnoException | null, addresses: readonly LookupAddress[]) => void,
) => void

export interface GuardedClientOptions {
  /** CIDRs of private addresses that any RP of this deployment may live at. */
  readonly allowedNetworks: readonly string[]
  /** Most connections to one origin. Default 256: the limit that counts is the RP's own concurrency. */
  readonly connectionsPerOrigin?: number
  /** Most of an answer's body that is read, in bytes. Default 16 KiB. */
  readonly responseBytesMax?: number
  /** Longest that a connection may take, in milliseconds. Default 3,000. */
  readonly connectTimeoutMs?: number
  readonly lookup?: Lookup
  /** Certificates (PEM) that are trusted beside the system's. */
  readonly ca?: readonly string[]
}

export interface PostRequest {
  /** Absolute. Its path and query are sent byte for byte. */
  readonly uri: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
  /** From this call to the end of the answer, in milliseconds. */
  readonly timeoutMs: number
  /** CIDRs that this RP may live at, beside the deployment's. */
  readonly allowedNetworks: readonly string[]
}

/**
 * The only way out. It dials public addresses over verified TLS, and others only where a network is allowed by name; the
 * address is checked as it is dialled, so that a name which changes its mind gains nothing. It follows no redirect, asks
 * no proxy, decompresses nothing, and reads no more than it must.
 */
export interface GuardedClient {
  /** Never rejects for what the network or the peer did. */
  post(request: PostRequest): Promise<Answer>
  close(): Promise<void>
}

/** The address is none that may be dialled. */
class AddressNotAllowedError extends Error {}

const HEADER_BYTES_MAX = 16 * 1024
const KEEP_ALIVE_MS = 10_000

export function createGuardedClient(options: GuardedClientOptions): GuardedClient {
  const { allowedNetworks, responseBytesMax = 16 * 1024 } = options
  // A connection that one RP's networks allow must not serve another's, so each set has connections of its own.
  const agents = new Map<string, Agent>()

  function agentFor(networks: readonly string[]): Agent {
    const name = networks.join(',')
    const known = agents.get(name)
    if (known !== undefined) return known
    const agent = createAgent(createAllowedNetworks([...allowedNetworks, ...networks]), options)
    agents.set(name, agent)
    return agent
  }

  return {
    post: (request) => post(agentFor(request.allowedNetworks), request, responseBytesMax),
    async close() {
      await Promise.all([...agents.values()].map((agent) => agent.destroy()))
    },
  }
}

function createAgent(allowed: AllowedNetworks, options: GuardedClientOptions): Agent {
  const { connectTimeoutMs = 3_000, connectionsPerOrigin = 256, lookup = lookupAll, ca } = options
  const connectorWith = (tls: boolean) =>
    buildConnector({
      timeout: connectTimeoutMs,
      minVersion: 'TLSv1.2',
      allowH2: false,
      ...(ca !== undefined && { ca: [...ca] }),
      lookup: guardedLookup(lookup, allowed, tls),
    } as buildConnector.BuildOptions)
  const overTls = connectorWith(true)
  const plain = connectorWith(false)

  return new Agent({
    connections: connectionsPerOrigin,
    pipelining: 1,
    keepAliveTimeout: KEEP_ALIVE_MS,
    maxHeaderSize: HEADER_BYTES_MAX,
    // The deadline of each request is its own, below.
    headersTimeout: 0,
    bodyTimeout: 0,
    connect(target, callback) {
      const tls = target.protocol === 'https:'
      const literal = target.hostname.replace(/^\[|\]$/g, '')
      // No lookup happens for a literal address.
      if (isIP(literal) !== 0 && !mayDial(literal, { allowed, tls })) {
        callback(notAllowed(literal, tls), null)
        return
      }
      const connect = tls ? overTls : plain
      connect(target, (...result) => {
        const [error, socket] = result
        const address = socket?.remoteAddress
        // Looked at once more where it counts: the address at the other end.
        if (
          error === null &&
          socket !== null &&
          (address === undefined || !mayDial(address, { allowed, tls }))
        ) {
          socket.destroy()
          callback(notAllowed(address ?? 'unknown', tls), null)
          return
        }
        callback(...result)
      })
    },
  })
}

function lookupAll(hostname: string, callback: Parameters<Lookup>[1]): void {
  systemLookup(hostname, { all: true }, callback)
}

/** A `lookup` for node:net that leaves out what may not be dialled. */
function guardedLookup(lookup: Lookup, allowed: AllowedNetworks, tls: boolean) {
  return (
    hostname: string,
    { all }: { all?: boolean },
    callback: (error: Error | null, address: LookupAddress[] | string, family?: number) => void,
  ): void => {
    lookup(hostname, (error, addresses) => {
      if (error !== null) return callback(error, [])
      const kept = addresses.filter(({ address }) => mayDial(address, { allowed, tls }))
      const [first] = kept
      if (first === undefined)
        return callback(
          notAllowed(`${hostname} (${addresses.map(({ address }) => address).join(', ')})`, tls),
          [],
        )
      return all === true ? callback(null, kept) : callback(null, first.address, first.family)
    })
  }
}

function notAllowed(address: string, tls: boolean): AddressNotAllowedError {
  return new AddressNotAllowedError(
    tls
      ? `${address} is not a public address and in no allowed network`
      : `${address} is in no allowed network, and only there may a token be sent without TLS`,
  )
}

function post(agent: Agent, request: PostRequest, bodyBytesMax: number): Promise<Answer> {
  const { promise, resolve } = Promise.withResolvers<Answer>()
  const { origin, path } = split(request.uri)
  let controller: Dispatcher.DispatchController | null = null
  let status: number | null = null
  let retryAfter: string | null = null
  const chunks: Buffer[] = []
  let bytes = 0
  let ended = false

  /** The answer as far as it came: a status says what the RP decided, whatever became of the rest. */
  const end = (answer: Answer) => {
    if (ended) return
    ended = true
    clearTimeout(timer)
    resolve(
      status === null
        ? answer
        : { kind: 'response', status, retryAfter, body: Buffer.concat(chunks).toString('utf8') },
    )
  }
  const cut = (failure: Answer) => {
    end(failure)
    controller?.abort(new Error('cut'))
  }
  const timer = setTimeout(
    () => cut({ kind: 'failure', failure: 'timeout', detail: `no answer within ${request.timeoutMs} ms` }),
    request.timeoutMs,
  )

  agent.dispatch(
    { origin, path, method: 'POST', headers: request.headers, body: request.body },
    {
      onRequestStart(started) {
        controller = started
        if (ended) started.abort(new Error('too late'))
      },
      onResponseStart(_controller, statusCode, headers) {
        if (statusCode < 200) return
        status = statusCode
        const after = headers['retry-after']
        retryAfter = typeof after === 'string' ? after : null
      },
      onResponseData(_controller, chunk) {
        const room = bodyBytesMax - bytes
        bytes += chunk.length
        chunks.push(chunk.length > room ? chunk.subarray(0, Math.max(room, 0)) : chunk)
        if (bytes > bodyBytesMax)
          cut({ kind: 'failure', failure: 'invalid_response', detail: 'the answer has no end' })
      },
      onResponseEnd() {
        end({ kind: 'failure', failure: 'invalid_response', detail: 'the answer had no status' })
      },
      onResponseError(_controller, error) {
        end(failed(error))
      },
    },
  )
  return promise
}

/** Origin and path of a URI. The path with its query is taken as it was registered, not as a parser writes it. */
function split(uri: string): { origin: string; path: string } {
  const url = new URL(uri)
  const rest = uri.slice(uri.indexOf('//') + 2)
  const start = rest.search(/[/?]/)
  const path = start === -1 ? '/' : rest.slice(start)
  return { origin: url.origin, path: path.startsWith('/') ? path : `/${path}` }
}

const FAILURES: Readonly<Record<string, TransportFailure>> = {
  ENOTFOUND: 'dns',
  EAI_AGAIN: 'dns',
  EAI_FAIL: 'dns',
  ENODATA: 'dns',
  ECONNREFUSED: 'connection_refused',
  EHOSTUNREACH: 'connection_refused',
  ENETUNREACH: 'connection_refused',
  UND_ERR_CONNECT_TIMEOUT: 'connect_timeout',
  ETIMEDOUT: 'connect_timeout',
  ECONNRESET: 'connection_reset',
  EPIPE: 'connection_reset',
  UND_ERR_SOCKET: 'connection_reset',
  UND_ERR_HEADERS_OVERFLOW: 'invalid_response',
  UND_ERR_RES_CONTENT_LENGTH_MISMATCH: 'invalid_response',
  UND_ERR_RESPONSE: 'invalid_response',
  EPROTO: 'tls',
}

function failed(error: unknown): Answer {
  const cause = first(error)
  if (cause instanceof AddressNotAllowedError) return { kind: 'not_allowed', detail: cause.message }
  const code = cause instanceof Error && 'code' in cause && typeof cause.code === 'string' ? cause.code : ''
  const detail = cause instanceof Error ? cause.message : String(cause)
  // By name: the parser gives this error a code only at times.
  const garbage = cause instanceof Error && cause.name === 'HTTPParserError'
  return {
    kind: 'failure',
    failure: garbage ? 'invalid_response' : (FAILURES[code] ?? byPrefix(code)),
    detail,
  }
}

/** Of several addresses tried the first one's fault; of a wrapped error its cause, where that is ours. */
function first(error: unknown): unknown {
  if (error instanceof AggregateError) return first(error.errors[0])
  if (error instanceof Error && error.cause instanceof AddressNotAllowedError) return error.cause
  return error
}

function byPrefix(code: string): TransportFailure {
  // Node has some forty codes for a certificate that does not verify, few with a common beginning.
  if (/^(?:ERR_TLS|ERR_SSL|CERT_|UNABLE_TO_|SELF_SIGNED|DEPTH_ZERO|HOSTNAME_MISMATCH|INVALID_CA)/.test(code))
    return 'tls'
  return 'connection_reset'
}
