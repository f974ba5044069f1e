import { readKafkaConnection } from '@curfew/broker'
import {
  type Environment,
  type EnvironmentReader,
  LOG_LEVELS,
  readAccess,
  readEnvironment,
  readMetricsPort,
  readReadTimeout,
} from '@curfew/runtime'

/** Reads the environment of the ingest service. @throws {ConfigurationError} */
export function readIngestConfig(env: Environment) {
  return readEnvironment(env, (read) => ({
    // Needed to tell what became of an event; accepting one does without, unless it is the event log too.
    databaseUrl: read.url('DATABASE_URL', { protocols: ['postgres:', 'postgresql:'], required: true }),
    kafka: readKafkaConnection(read),
    /** Of private addresses that authorization servers may live at. */
    allowedNetworks: read.cidrs('CURFEW_ALLOWED_NETWORKS'),
    /** By which the outside reaches this deployment: no relying party lives there. */
    publicUrl: read.url('CURFEW_PUBLIC_URL', { protocols: ['https:', 'http:'], required: false }),
    /** Null: every port. */
    allowedPorts: read.ports('CURFEW_ALLOWED_PORTS'),
    port: read.integer('PORT', { fallback: 8481, min: 0, max: 65_535 }),
    host: read.string('HOST', '0.0.0.0'),
    /** Null: `/metrics` is served beside the rest. */
    metricsPort: readMetricsPort(read),
    readTimeoutMs: readReadTimeout(read),
    adminKey: read.apiKey('CURFEW_ADMIN_KEY', { required: true }),
    access: readAccess(read),
    backlogMax: readBacklogMax(read),
    logLevel: read.oneOf('LOG_LEVEL', LOG_LEVELS, 'info'),
    stopDeadlineMs: read.integer('CURFEW_STOP_DEADLINE_MS', { fallback: 15_000, min: 0, max: 300_000 }),
  }))
}

/** How many records may wait in the bulk lane of the event log, and as many in that of sessions. */
export function readBacklogMax(read: Pick<EnvironmentReader, 'integer'>): number {
  return read.integer('CURFEW_BACKLOG_MAX', { fallback: 2_000_000, min: 1_000, max: 1_000_000_000 })
}
