import {
  createLog,
  type Environment,
  readOrExit,
  readTelemetry,
  runProcess,
  type Service,
  startTelemetry,
} from '@curfew/runtime'
import type { CommonConfig } from './config.ts'
import { createOpening, type Opening } from './opening.ts'

/**
 * Runs one service as a process: reads its settings, opens its resources, and runs it until a signal stops it. Invalid
 * settings end the process with status 2 and one line for each.
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
  return runProcess(
    async (scope) => {
      // Started first, so that it ends last and exports the spans of everything else.
      await startTelemetry({ ...telemetry, service: name, messaging: messagingOf(config), scope, log })
      return wire(config, createOpening({ name, config, scope, log }))
    },
    { stopDeadlineMs: config.stopDeadlineMs, about: describeProcess(config), log },
  )
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
