import { connect as connectTcp, isIP, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import kafkajs, { type ISocketFactory, type Kafka, type KafkaConfig, type RetryOptions } from 'kafkajs'
import { readHeadersInOnePass } from './record-headers.ts'
import { calmRequestQueue } from './request-queue.ts'

/** The brokers of a cluster, and how to connect to them. */
export interface ConnectionOptions {
  /** `host:port` of some brokers of the cluster. They name the others. */
  readonly brokers: readonly string[]
  /** Appears in the brokers' logs and quotas. */
  readonly clientId: string
  /** TLS; true uses the authorities that Node trusts. Default: no TLS. */
  readonly ssl?: NonNullable<KafkaConfig['ssl']>
  /** Default: no authentication. */
  readonly sasl?: NonNullable<KafkaConfig['sasl']>
  /** Receives the log of kafkajs, which writes nothing to standard output. Default: none. */
  readonly log?: KafkaLog
}

export type KafkaLog = (
  level: 'error' | 'warn' | 'info',
  message: string,
  details: Readonly<Record<string, unknown>>,
) => void

/** A kafkajs client that can be ended for good. */
export interface Client {
  readonly kafka: Kafka
  /** Opens the client's sockets, for parts of kafkajs that do not go through its `Kafka`. */
  readonly socketFactory: ISocketFactory
  /** Destroys the connections and refuses new ones. No retry inside kafkajs reaches a broker afterwards. Idempotent. */
  kill(): void
}

export const CONNECT_TIMEOUT_MS = 3_000
const KEEP_ALIVE_MS = 30_000

/**
 * kafkajs retries only a few times, because our own retries surround it and can be stopped. Every member is set: kafkajs has
 * other defaults if NODE_ENV is `test`.
 */
export const FEW_RETRIES: RetryOptions = {
  retries: 2,
  initialRetryTime: 100,
  maxRetryTime: 1_000,
  factor: 0.2,
  multiplier: 2,
}

/** The index of the first broker of the next client. */
let first = Math.floor(Math.random() * 1_000)

/**
 * Creates a client without opening a connection. Each client starts with another broker: kafkajs moves on from a broker that
 * refuses, but asks one that hangs again and again.
 *
 * Each use has its own client. Consumers of one client share and clear each other's committed offsets, and the connections of one
 * client cannot be told apart by use.
 */
export function createClient(
  { brokers, clientId, ssl, sasl, log }: ConnectionOptions,
  requestTimeoutMs: number,
): Client {
  calmRequestQueue()
  readHeadersInOnePass()
  first = (first + 1) % brokers.length
  const sockets = new Set<Socket>()
  let killed = false

  // kafkajs cannot be stopped: a disconnected producer connects again to finish its retries, and a connection waits for answers
  // that never come. Destroying the sockets ends it for certain.
  const socketFactory: ISocketFactory = ({ host, port, ssl: tls, onConnect }) => {
    if (killed) throw new Error('this Kafka client has been closed')
    const socket = tls
      ? connectTls({ host, port, ...(isIP(host) === 0 ? { servername: host } : {}), ...tls }, onConnect)
      : connectTcp({ host, port }, onConnect)
    socket.setKeepAlive(true, KEEP_ALIVE_MS)
    // kafkajs leaves Nagle's algorithm on, which delays a small request until the previous one is acknowledged.
    socket.setNoDelay(true)
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
    return socket
  }

  const kafka = new kafkajs.Kafka({
    brokers: [...brokers.slice(first), ...brokers.slice(0, first)],
    clientId,
    ...(ssl === undefined ? {} : { ssl }),
    // A copy, because kafkajs adds to it and our configuration is frozen.
    ...(sasl === undefined ? {} : { sasl: { ...sasl } }),
    connectionTimeout: CONNECT_TIMEOUT_MS,
    authenticationTimeout: CONNECT_TIMEOUT_MS * 2,
    requestTimeout: requestTimeoutMs,
    enforceRequestTimeout: true,
    retry: FEW_RETRIES,
    socketFactory,
    logLevel: kafkajs.logLevel.INFO,
    logCreator: () => (entry) => {
      const { message, timestamp: _timestamp, logger: _logger, ...details } = entry.log
      if (killed || log === undefined || IGNORED_MESSAGES.some((text) => message.startsWith(text))) return
      // kafkajs logs every answer with an error code as an error, even in an orderly rebalance. Important errors are thrown too.
      const level = message.startsWith('Response ') ? 'info' : levelName(entry.level)
      log(level, message, { namespace: entry.namespace, ...details })
    },
  })
  return {
    kafka,
    socketFactory,
    kill: () => {
      killed = true
      // With an error, because kafkajs hears `error` and `end` but not `close`.
      for (const socket of sockets) socket.destroy(new Error('given up by us'))
    },
  }
}

/**
 * Log messages about our own requests, routine work, or errors that are thrown too. An unavailable broker causes dozens a second.
 */
const IGNORED_MESSAGES = [
  'Limiting retries for the idempotent producer',
  'Pausing fetching',
  'Resuming fetching',
  'Connection error',
  'Connection timeout',
  'Failed to connect to',
]

function levelName(level: kafkajs.logLevel): 'error' | 'warn' | 'info' {
  if (level <= kafkajs.logLevel.ERROR) return 'error'
  return level === kafkajs.logLevel.WARN ? 'warn' : 'info'
}

/**
 * Waits for `work` for `timeoutMs` at most. Ignores its later result.
 *
 * @throws {Error} `what` and "timed out", or the error of `work`.
 */
export async function within<Result>(
  work: Promise<Result>,
  timeoutMs: number,
  what: string,
): Promise<Result> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} timed out after ${timeoutMs} ms`)), timeoutMs)
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}

/** The innermost cause: kafkajs wraps an error once per layer. */
export function original(error: unknown): unknown {
  let current = error
  while (current instanceof Error && current.cause instanceof Error) current = current.cause
  return current
}
