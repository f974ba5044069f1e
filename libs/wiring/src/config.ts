import { type KafkaConnection, readKafkaConnection } from '@curfew/broker'
import {
  type EnvironmentReader,
  type ProcessConfig,
  readMetricsPort,
  readProcessConfig,
} from '@curfew/runtime'

/** Which relying parties Curfew may reach. */
export interface OutboundConfig {
  /** Private networks that Curfew may reach, in CIDR notation. */
  readonly allowedNetworks: readonly string[]
  /** Null allows every port. */
  readonly allowedPorts: readonly (readonly [first: number, last: number])[] | null
  /** The URL by which the outside reaches this deployment. No relying party lives there. */
  readonly publicUrl: string | null
}

/** The settings that every process has. */
export interface CommonConfig extends OutboundConfig, ProcessConfig {
  readonly databaseUrl: string
  /** Null if PostgreSQL is the event log. Nothing is published then. */
  readonly kafka: KafkaConnection | null
  readonly host: string
  readonly port: number
  /** Null if the service's own port serves `/metrics` too. */
  readonly metricsPort: number | null
  /** Proxies whose `X-Forwarded-For` names the address of a client, in CIDR notation. */
  readonly trustedProxies: readonly string[]
}

export function readOutboundConfig(read: Pick<EnvironmentReader, 'cidrs' | 'ports' | 'url'>): OutboundConfig {
  return {
    allowedNetworks: read.cidrs('CURFEW_ALLOWED_NETWORKS'),
    allowedPorts: read.ports('CURFEW_ALLOWED_PORTS'),
    publicUrl: read.url('CURFEW_PUBLIC_URL', { protocols: ['https:', 'http:'], required: false }),
  }
}

/** @param port the default of `PORT`. */
export function readCommonConfig(read: EnvironmentReader, { port }: { readonly port: number }): CommonConfig {
  return {
    databaseUrl: read.url('DATABASE_URL', { protocols: ['postgres:', 'postgresql:'], required: true }),
    kafka: readKafkaConnection(read),
    ...readOutboundConfig(read),
    host: read.string('HOST', '0.0.0.0'),
    port: read.integer('PORT', { fallback: port, min: 0, max: 65_535 }),
    metricsPort: readMetricsPort(read),
    trustedProxies: readTrustedProxies(read),
    ...readProcessConfig(read),
  }
}

/** `CURFEW_TRUSTED_PROXIES`. The limits by address count the clients of these proxies, and not the proxies. */
export function readTrustedProxies(read: Pick<EnvironmentReader, 'cidrs'>): readonly string[] {
  return read.cidrs('CURFEW_TRUSTED_PROXIES')
}

/** The disk on which records wait while the event log is unavailable. */
export interface SpoolConfig {
  readonly directory: string
  readonly bytesMax: number
}

type SpoolReader = Pick<EnvironmentReader, 'optional' | 'integer'>

/** @param fallback the directory without a setting. Null: no spool. */
export function readSpool(read: SpoolReader, fallback: string): SpoolConfig
export function readSpool(read: SpoolReader, fallback: null): SpoolConfig | null
export function readSpool(read: SpoolReader, fallback: string | null): SpoolConfig | null {
  const directory = read.optional('CURFEW_SPOOL') ?? fallback
  const bytesMax = read.integer('CURFEW_SPOOL_MAX_BYTES', {
    fallback: 256 * 1024 * 1024,
    min: 1024 * 1024,
    max: 1024 ** 4,
  })
  return directory === null ? null : { directory, bytesMax }
}

/** The master key and its predecessor, which still opens old values while the new key replaces it. */
export interface MasterKeys {
  readonly masterKey: Uint8Array
  readonly oldMasterKey: Uint8Array | null
}

export function readMasterKeys(read: Pick<EnvironmentReader, 'secret32'>): MasterKeys {
  return {
    masterKey: read.secret32('CURFEW_MASTER_KEY', { required: true }),
    oldMasterKey: read.secret32('CURFEW_MASTER_KEY_OLD', { required: false }),
  }
}
