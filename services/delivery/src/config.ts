import type { DatabaseOptions } from '@curfew/ledger'
import { type Environment, readEnvironment } from '@curfew/runtime'
import { readCommonConfig, readMasterKeys } from '@curfew/wiring'

/** Reads the environment of the delivery service. @throws {ConfigurationError} */
export function readDeliveryConfig(env: Environment) {
  return readEnvironment(env, (read) => ({
    ...readCommonConfig(read, { port: 8483 }),
    ...readMasterKeys(read),
    leaseMs: read.integer('CURFEW_LEASE_MS', { fallback: 10_000, min: 1_000, max: 300_000 }),
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
