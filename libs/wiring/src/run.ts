import { checkServerVersion, createDatabase, PostgresTooOldError } from '@curfew/ledger'
import {
  createLog,
  type Environment,
  readOrExit,
  readTelemetry,
  runProcess,
  type Scope,
  type Service,
  startTelemetry,
} from '@curfew/runtime'
import type { CommonConfig } from './config.ts'
import { createOpening, type Opening } from './opening.ts'

/**
 * Runs one service as a process: reads its settings, opens its resources, and runs it until a signal stops it. Invalid
 * settings end the process with status 2 and one line for each. A PostgreSQL that is too old ends it with status 1.
 *
 * @returns the exit status.
 */
export async function runService<Config extends CommonConfig>(
  name: string,
  read: (env: Environment) => Config,
  wire: (config: Config, open: Opening) => Promise<readonly Service[]>,
): Promise<0 | 1> {
  const config = readOrExit(read)
  const telemetry = readOrExit(readTelemetry)
  const log = createLog({ service: name, level: config.logLevel })
  const compose = async (scope: Scope) => {
    // Started first, so that it ends last and exports the spans of everything else.
    await startTelemetry({ ...telemetry, service: name, messaging: messagingOf(config), scope, log })
    await refuseOldServer(config.databaseUrl, name)
    return wire(config, createOpening({ name, config, scope, log }))
  }
  return runProcess(compose, {
    stopDeadlineMs: config.stopDeadlineMs,
    about: describeProcess(config),
    log,
  })
}

/** Longest wait for a connection, and then for the version of PostgreSQL, in milliseconds. The start waits for it. */
const VERSION_TIMEOUT_MS = 2_000

/**
 * Reads the version of PostgreSQL. A service also starts while PostgreSQL is unavailable; its readiness check then reads the version.
 *
 * @throws {PostgresTooOldError} when the server is older than PostgreSQL 16.
 */
async function refuseOldServer(databaseUrl: string, name: string): Promise<void> {
  const db = createDatabase(databaseUrl, {
    ...{ applicationName: `curfew ${name} start`, poolMax: 1 },
    ...{ connectTimeoutMs: VERSION_TIMEOUT_MS, statementTimeoutMs: VERSION_TIMEOUT_MS },
  })
  try {
    await checkServerVersion(db)
  } catch (error) {
    // The check `ledger` reports other errors, such as a wrong password.
    if (error instanceof PostgresTooOldError) throw error
  } finally {
    await db.end()
  }
}

/** The attributes of spans that send to the event log or process its records. */
export function messagingOf({ kafka }: Pick<CommonConfig, 'kafka'>) {
  return { 'messaging.system': kafka === null ? 'postgresql' : 'kafka' }
}

/** The members of `process.started`: where the process listens, and which event log it uses. */
export function describeProcess({
  host,
  port,
  metricsPort,
  kafka,
}: Pick<CommonConfig, 'host' | 'port' | 'metricsPort' | 'kafka'>) {
  return {
    listens: `${host}:${port}`,
    metrics_port: metricsPort ?? port,
    event_log: kafka === null ? 'postgresql' : 'kafka',
  }
}
