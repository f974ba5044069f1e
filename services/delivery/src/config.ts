import { readKafkaConnection } from '@curfew/broker'
import type { DatabaseOptions } from '@curfew/ledger'
import { type Environment, LOG_LEVELS, readEnvironment, readMetricsPort } from '@curfew/runtime'

/** Reads the environment of the delivery service. @throws {ConfigurationError} */
export function readDeliveryConfig(env: Environment) {
  return readEnvironment(env, (read) => ({
    databaseUrl: read.url('DATABASE_URL', { protocols: ['postgres:', 'postgresql:'], required: true }),
    kafka: readKafkaConnection(read),
    port: read.integer('PORT', { fallback: 8483, min: 0, max: 65_535 }),
    host: read.string('HOST', '0.0.0.0'),
    /** Null: `/metrics` is served beside the rest. */
    metricsPort: readMetricsPort(read),
    masterKey: read.secret32('CURFEW_MASTER_KEY', { required: true }),
    /** Opens too, while one master key replaces another. */
    oldMasterKey: read.secret32('CURFEW_MASTER_KEY_OLD', { required: false }),
    allowedNetworks: read.cidrs('CURFEW_ALLOWED_NETWORKS'),
    /** By which the outside reaches this deployment: no relying party lives there. */
    publicUrl: read.url('CURFEW_PUBLIC_URL', { protocols: ['https:', 'http:'], required: false }),
    /** Null: every port. */
    allowedPorts: read.ports('CURFEW_ALLOWED_PORTS'),
    logLevel: read.oneOf('LOG_LEVEL', LOG_LEVELS, 'info'),
    leaseMs: read.integer('CURFEW_LEASE_MS', { fallback: 10_000, min: 1_000, max: 300_000 }),
    stopDeadlineMs: read.integer('CURFEW_STOP_DEADLINE_MS', { fallback: 15_000, min: 0, max: 300_000 }),
  }))
}

/**
 * The one connection that heartbeats have for themselves: however busy the others are, a worker that lives says so in time.
 * A beat that is not answered for half a lease is given up, and the next is tried.
 */
export function heartbeatOptions({ leaseMs }: { readonly leaseMs: number }): DatabaseOptions {
  const patienceMs = Math.ceil(leaseMs / 2)
  return {
    applicationName: 'curfew heartbeat',
    poolMax: 1,
    statementTimeoutMs: patienceMs,
    connectTimeoutMs: patienceMs,
  }
}
