import { createLog, type Environment, readOrExit, runProcess, type Service } from '@curfew/runtime'
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
  const log = createLog({ service: name, level: config.logLevel })
  return runProcess((scope) => wire(config, createOpening({ name, config, scope, log })), {
    stopDeadlineMs: config.stopDeadlineMs,
    about: describeProcess(config),
    log,
  })
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
