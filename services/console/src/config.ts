import { readKafkaConnection } from '@curfew/broker'
import {
  type Environment,
  type EnvironmentReader,
  LOG_LEVELS,
  readAccess,
  readEnvironment,
  readLogOrigin,
  readMetricsPort,
  readReadTimeout,
} from '@curfew/runtime'

/** Reads the environment of the console service. @throws {ConfigurationError} */
export function readConsoleConfig(env: Environment) {
  return readEnvironment(env, (read) => ({
    databaseUrl: read.url('DATABASE_URL', { protocols: ['postgres:', 'postgresql:'], required: true }),
    port: read.integer('PORT', { fallback: 8482, min: 0, max: 65_535 }),
    host: read.string('HOST', '0.0.0.0'),
    /** Null: `/metrics` is served beside the rest. */
    metricsPort: readMetricsPort(read),
    readTimeoutMs: readReadTimeout(read),
    adminKey: read.apiKey('CURFEW_ADMIN_KEY', { required: true }),
    access: readAccess(read),
    masterKey: read.secret32('CURFEW_MASTER_KEY', { required: true }),
    /** Opens too, while one master key replaces another. */
    oldMasterKey: read.secret32('CURFEW_MASTER_KEY_OLD', { required: false }),
    allowedNetworks: read.cidrs('CURFEW_ALLOWED_NETWORKS'),
    /** Looked at for operators, and no relying party lives there. */
    kafka: readKafkaConnection(read),
    /** By which the outside reaches this deployment: no relying party lives there. */
    publicUrl: read.url('CURFEW_PUBLIC_URL', { protocols: ['https:', 'http:'], required: false }),
    logOrigin: readLogOrigin(read),
    relyingPartiesMax: readRelyingPartiesMax(read),
    /** Null: every port. */
    allowedPorts: read.ports('CURFEW_ALLOWED_PORTS'),
    logLevel: read.oneOf('LOG_LEVEL', LOG_LEVELS, 'info'),
    stopDeadlineMs: read.integer('CURFEW_STOP_DEADLINE_MS', { fallback: 15_000, min: 0, max: 300_000 }),
  }))
}

/** How many relying parties an issuer may have that has no quota of its own. */
export function readRelyingPartiesMax(read: Pick<EnvironmentReader, 'integer'>): number {
  return read.integer('CURFEW_RELYING_PARTIES_MAX_PER_ISSUER', { fallback: 20_000, min: 0, max: 1_000_000 })
}
