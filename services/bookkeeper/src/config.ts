import { type Environment, LOG_LEVELS, readEnvironment } from '@curfew/runtime'

/** Reads the environment of the bookkeeper service. @throws {ConfigurationError} */
export function readBookkeeperConfig(env: Environment) {
  return readEnvironment(env, (read) => ({
    databaseUrl: read.url('DATABASE_URL', { protocols: ['postgres:', 'postgresql:'], required: true }),
    port: read.integer('PORT', { fallback: 8484, min: 0, max: 65_535 }),
    host: read.string('HOST', '0.0.0.0'),
    logLevel: read.oneOf('LOG_LEVEL', LOG_LEVELS, 'info'),
    stopDeadlineMs: read.integer('CURFEW_STOP_DEADLINE_MS', { fallback: 15_000, min: 0, max: 300_000 }),
  }))
}
