import {
  type Environment,
  type EnvironmentReader,
  readAccess,
  readEnvironment,
  readReadTimeout,
} from '@curfew/runtime'
import { readCommonConfig } from '@curfew/wiring'

/** Reads the environment of the ingest service. @throws {ConfigurationError} */
export function readIngestConfig(env: Environment) {
  return readEnvironment(env, (read) => ({
    ...readCommonConfig(read, { port: 8481 }),
    readTimeoutMs: readReadTimeout(read),
    adminKey: read.apiKey('CURFEW_ADMIN_KEY', { required: true }),
    access: readAccess(read),
    backlogMax: readBacklogMax(read),
  }))
}

/** How many records may wait in the bulk lane of the event log, and as many in that of sessions. */
export function readBacklogMax(read: Pick<EnvironmentReader, 'integer'>): number {
  return read.integer('CURFEW_BACKLOG_MAX', { fallback: 2_000_000, min: 1_000, max: 1_000_000_000 })
}
