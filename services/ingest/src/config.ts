import {
  type Environment,
  type EnvironmentReader,
  readAccessConfig,
  readEnvironment,
  readReadTimeout,
} from '@curfew/runtime'
import { readCommonConfig, readSpool } from '@curfew/wiring'

/** Reads the environment of the ingest service. @throws {ConfigurationError} */
export function readIngestConfig(env: Environment) {
  return readEnvironment(env, (read) => ({
    ...readCommonConfig(read, { port: 8481 }),
    readTimeoutMs: readReadTimeout(read),
    // Only the tokens of sessions need it. Ingest seals them, and opens no secret.
    masterKey: read.secret32('CURFEW_MASTER_KEY', { required: false }),
    adminKey: read.apiKey('CURFEW_ADMIN_KEY', { required: true }),
    access: readAccessConfig(read),
    backlogMax: readBacklogMax(read),
    spool: readSpool(read, null),
  }))
}

/** The greatest backlog of the bulk lane and of the sessions lane, in records per lane. */
export function readBacklogMax(read: Pick<EnvironmentReader, 'integer'>): number {
  return read.integer('CURFEW_BACKLOG_MAX', { fallback: 2_000_000, min: 1_000, max: 1_000_000_000 })
}
