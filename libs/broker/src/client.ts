import { connect as connectTcp, isIP, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import kafkajs, { type ISocketFactory, type Kafka, type KafkaConfig, type RetryOptions } from 'kafkajs'
import { readHeadersInOnePass } from './record-headers.ts'
import { calmRequestQueue } from './request-queue.ts'

/** Where the cluster is and how it is spoken to. */
export interface ConnectionOptions {
  /** `host:port` of some brokers of the cluster; the others are learnt from them. */
  readonly brokers: readonly string[]
  /** Seen in the brokers' logs and quotas. */
  readonly clientId: string
  /** TLS; true for the system's authorities. Default: none. */
  readonly ssl?: NonNullable<KafkaConfig['ssl']>
  /** Default: none. */
  readonly sasl?: NonNullable<KafkaConfig['sasl']>
  /** Told of what kafkajs says; it writes nothing to standard output. Default: silence. */
  readonly log?: KafkaLog
}

export type KafkaLog = (
  level: 'error' | 'warn' | 'info',
  message: string,
  details: Readonly<Record<string, unknown>>,
) => void

/** A kafkajs client of our own that can be ended for good. */
export interface Client {
  readonly kafka: Kafka
  /** Opens the client's sockets, for parts of kafkajs that are used without its `Kafka`. */
  readonly socketFactory: ISocketFactory
  /** Destroys its connections and refuses new ones, so that nothing it still retries reaches a broker. Idempotent. */
  kill(): void
}

export const CONNECT_TIMEOUT_MS = 3_000
const KEEP_ALIVE_MS = 30_000

/**
 * Retries inside kafkajs are few, for ours stand around them and can be stopped. Every member is given: where NODE_ENV
 * is `test`, kafkajs takes other defaults.
 */
export const FEW_RETRIES: RetryOptions = {
  retries: 2,
  initialRetryTime: 100,
  maxRetryTime: 1_000,
  factor: 0.2,
  multiplier: 2,
}

/** Which of the brokers the next client begins with. */
let first = Math.floor(Math.random() * 1_000)

/**
 * Opens nothing yet. Each client begins with another broker: kafkajs goes on to the next one where a broker refuses,
 * but asks one that hangs again and again.
 *
 * One client for each use: consumers of one client share, and clear, each other's committed
 * offsets, and one client's connections cannot be told apart by use.
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

  // kafkajs cannot be stopped: a producer that was disconnected connects again to finish its retries, and a
  // connection waits for answers that never come. With the sockets in our hands, an end is an end.
  const socketFactory: ISocketFactory = ({ host, port, ssl: tls, onConnect }) => {
    if (killed) throw new Error('this Kafka client has been closed')
    const socket = tls
      ? connectTls({ host, port, ...(isIP(host) === 0 ? { servername: host } : {}), ...tls }, onConnect)
      : connectTcp({ host, port }, onConnect)
    socket.setKeepAlive(true, KEEP_ALIVE_MS)
    // kafkajs leaves Nagle's algorithm on, which holds a small request back behind an unacknowledged one.
    socket.setNoDelay(true)
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
    return socket
  }

  const kafka = new kafkajs.Kafka({
    brokers: [...brokers.slice(first), ...brokers.slice(0, first)],
    clientId,
    ...(ssl === undefined ? {} : { ssl }),
    // A copy, for kafkajs adds to it, and a configuration that was read is frozen.
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
      if (killed || log === undefined || IDLE_TALK.some((text) => message.startsWith(text))) return
      // It calls every answer that is not "yes" an error, also those of an orderly rebalance. What comes of one that
      // matters is thrown.
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

/** What we do on purpose, or all the time, or hear again as the error that is thrown. While a broker is away it would be dozens of lines a second. */
const IDLE_TALK = [
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
 * Waits for `work` no longer than `timeoutMs`. What it comes to later is let go.
 *
 * @throws {Error} `what` and "timed out", or what `work` threw.
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

/** What went wrong in the first place: kafkajs wraps an error once for each of its layers. */
export function original(error: unknown): unknown {
  let current = error
  while (current instanceof Error && current.cause instanceof Error) current = current.cause
  return current
}
