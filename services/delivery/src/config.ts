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
 * The options of the one connection that only heartbeats use. With its own connection, a live worker is never declared dead
 * because the other connections are busy. An unanswered heartbeat is abandoned after half a lease, and the next one is sent.
 */
export function heartbeatOptions({ leaseMs }: { readonly leaseMs: number }): DatabaseOptions {
  const timeoutMs = Math.ceil(leaseMs / 2)
  return {
    applicationName: 'curfew heartbeat',
    poolMax: 1,
    statementTimeoutMs: timeoutMs,
    connectTimeoutMs: timeoutMs,
  }
}
