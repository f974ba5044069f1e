import { X509Certificate } from 'node:crypto'
import type { ConnectionOptions } from './client.ts'
import { DEFAULT_TOPICS, type TopicsSettings } from './topics.ts'

/** The methods of an environment reader that are used here. */
interface Reader {
  optional(name: string): string | null
  list(name: string, check?: (item: string) => string | null): readonly string[]
  flag(name: string, fallback: boolean): boolean
  integer(name: string, options: { fallback: number; min: number; max: number }): number
  fault(line: string): void
}

export type KafkaConnection = Pick<ConnectionOptions, 'brokers' | 'ssl' | 'sasl'> & {
  readonly topics: TopicsSettings
}

/** The characters that Kafka allows in a topic's name. */
const TOPIC_NAME = /^[A-Za-z0-9._-]*$/

const MECHANISMS = ['plain', 'scram-sha-256', 'scram-sha-512'] as const

/**
 * Reads `KAFKA_BROKERS`, `KAFKA_SSL`, `KAFKA_SSL_CA` (PEM), `KAFKA_SASL_MECHANISM`, `KAFKA_SASL_USERNAME` and
 * `KAFKA_SASL_PASSWORD`. For the topics that we create, it reads `KAFKA_REPLICATION_FACTOR` and `KAFKA_TOPIC_PREFIX`. Returns
 * null without brokers: the event log is then in PostgreSQL.
 */
export function readKafkaConnection(read: Reader): KafkaConnection | null {
  const brokers = read.list('KAFKA_BROKERS', (item) =>
    /^[^\s:]+:\d{1,5}$/.test(item) ? null : 'must be host:port',
  )
  const ca = read.optional('KAFKA_SSL_CA')
  if (ca !== null && !isPem(ca))
    read.fault('KAFKA_SSL_CA must contain CA certificates in PEM, not the name of a file')
  const ssl = read.flag('KAFKA_SSL', ca !== null) ? (ca === null ? true : { ca: [ca] }) : null
  const sasl = readSasl(read)
  const replicationFactor = read.integer('KAFKA_REPLICATION_FACTOR', {
    fallback: DEFAULT_TOPICS.replicationFactor,
    min: 1,
    max: 100,
  })
  const prefix = read.optional('KAFKA_TOPIC_PREFIX') ?? DEFAULT_TOPICS.prefix
  if (!TOPIC_NAME.test(prefix)) read.fault('KAFKA_TOPIC_PREFIX may contain only letters, digits, and . _ -')
  if (brokers.length === 0) {
    // Otherwise this service would append to PostgreSQL while the workers read from Kafka.
    if (read.optional('KAFKA_BROKERS') !== null) read.fault('KAFKA_BROKERS names no broker')
    return null
  }
  return {
    brokers,
    topics: { ...DEFAULT_TOPICS, replicationFactor, prefix },
    ...(ssl !== null && { ssl }),
    ...(sasl !== null && { sasl }),
  }
}

const CERTIFICATE = /-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----/gs

/** Whether a text holds readable certificates in PEM. Node silently ignores any other text. */
function isPem(text: string): boolean {
  const blocks = text.match(CERTIFICATE) ?? []
  try {
    return blocks.length > 0 && blocks.every((block) => new X509Certificate(block).subject !== undefined)
  } catch (error) {
    if (error instanceof Error) return false
    throw error
  }
}

function readSasl(read: Reader): NonNullable<ConnectionOptions['sasl']> | null {
  const username = read.optional('KAFKA_SASL_USERNAME')
  const password = read.optional('KAFKA_SASL_PASSWORD')
  const named = read.optional('KAFKA_SASL_MECHANISM')
  if (username === null && password === null && named === null) return null
  const mechanism = MECHANISMS.find((candidate) => candidate === (named ?? 'scram-sha-512').toLowerCase())
  if (mechanism === undefined) read.fault(`KAFKA_SASL_MECHANISM must be one of ${MECHANISMS.join(', ')}`)
  if (username === null || password === null) {
    read.fault('KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD must both be set')
  }
  if (mechanism === undefined || username === null || password === null) return null
  return { mechanism, username, password } as NonNullable<ConnectionOptions['sasl']>
}
