import { X509Certificate } from 'node:crypto'
import { readCertificatePem } from '@curfew/domain'
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

/** `KAFKA_SSL_CA` may be the issuing CA without its root. */
const PARTIAL = { allowPartialTrustChain: true }

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
  const ca = readCa(read)
  const ssl = read.flag('KAFKA_SSL', ca !== null) ? (ca === null ? true : { ca: [...ca], ...PARTIAL }) : null
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

/** The certificates of a text in PEM; null, with a fault, if it has none or one is damaged. Node ignores other text silently. */
function readCa(read: Reader): readonly string[] | null {
  const text = read.optional('KAFKA_SSL_CA')
  if (text === null) return null
  const found = readCertificatePem(text)
  if (found.ok && found.certificates.every(isCertificate)) return found.certificates
  const detail = found.ok ? 'must be certificates in PEM: one is damaged' : found.detail
  read.fault(`KAFKA_SSL_CA ${detail}. It takes the content of a file, not its name`)
  return null
}

function isCertificate(pem: string): boolean {
  try {
    return new X509Certificate(pem).subject !== undefined
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
