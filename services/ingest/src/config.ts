import { readKafkaConnection } from '@curfew/broker'
import {
  type Environment,
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
    /** Null: every port. */
    allowedPorts: read.ports('CURFEW_ALLOWED_PORTS'),
    port: read.integer('PORT', { fallback: 8481, min: 0, max: 65_535 }),
    host: read.string('HOST', '0.0.0.0'),
    /** Null: `/metrics` is served beside the rest. */
    metricsPort: readMetricsPort(read),
    readTimeoutMs: readReadTimeout(read),
    adminKey: read.apiKey('CURFEW_ADMIN_KEY', { required: true }),
    access: readAccess(read),
    logLevel: read.oneOf('LOG_LEVEL', LOG_LEVELS, 'info'),
    stopDeadlineMs: read.integer('CURFEW_STOP_DEADLINE_MS', { fallback: 15_000, min: 0, max: 300_000 }),
  }))
}
