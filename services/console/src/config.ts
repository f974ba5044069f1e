import {
  type Environment,
  type EnvironmentReader,
  readAccessConfig,
  readEnvironment,
  readLogOrigin,
  readReadTimeout,
} from '@curfew/runtime'
import { readCommonConfig, readMasterKeys } from '@curfew/wiring'

/** Reads the environment of the console service. @throws {ConfigurationError} */
export function readConsoleConfig(env: Environment) {
  return readEnvironment(env, (read) => ({
    ...readCommonConfig(read, { port: 8482 }),
    readTimeoutMs: readReadTimeout(read),
    adminKey: read.apiKey('CURFEW_ADMIN_KEY', { required: true }),
    access: readAccessConfig(read),
    ...readMasterKeys(read),
    logOrigin: readLogOrigin(read),
    relyingPartiesMax: readRelyingPartiesMax(read),
  }))
}

/** The limit of relying parties for issuers without a quota of their own. */
export function readRelyingPartiesMax(read: Pick<EnvironmentReader, 'integer'>): number {
  return read.integer('CURFEW_RELYING_PARTIES_MAX_PER_ISSUER', { fallback: 20_000, min: 0, max: 1_000_000 })
}
