import { join, resolve } from 'node:path'
import { readReceiptSettings, readRetention, readSessionsMax } from '@curfew/bookkeeper'
import { readKafkaConnection } from '@curfew/broker'
import { readRelyingPartiesMax } from '@curfew/console'
import { readBacklogMax } from '@curfew/ingest'
import {
  type Environment,
  readAccessConfig,
  readEnvironment,
  readMetricsPort,
  readProcessConfig,
  readReadTimeout,
} from '@curfew/runtime'
import { readOutboundConfig, readSpool, readTrustedProxies } from '@curfew/wiring'

export type StandaloneConfig = ReturnType<typeof readStandaloneConfig>

/** Reads the environment of the standalone process. @throws {ConfigurationError} */
export function readStandaloneConfig(env: Environment) {
  return readEnvironment(env, (read) => {
    const dataDir = resolve(read.string('CURFEW_DATA', './.curfew'))
    return {
      /** Null for an embedded PostgreSQL under `dataDir`. */
      databaseUrl: read.url('DATABASE_URL', { protocols: ['postgres:', 'postgresql:'] }),
      /** Null if PostgreSQL is the event log. */
      kafka: readKafkaConnection(read),
      dataDir,
      host: read.string('HOST', '127.0.0.1'),
      port: read.integer('CURFEW_PORT', { fallback: 8480, min: 0, max: 65_535 }),
      /** Null if `/metrics` is served on the main port. */
      metricsPort: readMetricsPort(read),
      trustedProxies: readTrustedProxies(read),
      readTimeoutMs: readReadTimeout(read),
      /** Null if a key is generated into `dataDir`. */
      masterKey: read.secret32('CURFEW_MASTER_KEY', { required: false }),
      /** Opens secrets too, while one master key replaces another. */
      oldMasterKey: read.secret32('CURFEW_MASTER_KEY_OLD', { required: false }),
      /** Null if a key is generated and its hash stored in `dataDir`. */
      adminKey: read.apiKey('CURFEW_ADMIN_KEY', { required: false }),
      access: readAccessConfig(read),
      ...readOutboundConfig(read),
      retention: readRetention(read),
      receipts: readReceiptSettings(read),
      sessionsMax: readSessionsMax(read),
      relyingPartiesMax: readRelyingPartiesMax(read),
      backlogMax: readBacklogMax(read),
      ...readProcessConfig(read),
      spool: readSpool(read, join(dataDir, 'spool')),
      leaseMs: read.integer('CURFEW_LEASE_MS', { fallback: 10_000, min: 1_000, max: 300_000 }),
    }
  })
}
