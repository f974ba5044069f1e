import type { EnvironmentReader } from './environment.ts'
import { LOG_LEVELS, type LogLevel } from './log.ts'

/** The settings of a process itself. */
export interface ProcessConfig {
  readonly logLevel: LogLevel
  /** Time from the first signal until work in flight is abandoned, in milliseconds. */
  readonly stopDeadlineMs: number
}

export function readProcessConfig(read: Pick<EnvironmentReader, 'oneOf' | 'integer'>): ProcessConfig {
  return {
    logLevel: read.oneOf('LOG_LEVEL', LOG_LEVELS, 'info'),
    stopDeadlineMs: read.integer('CURFEW_STOP_DEADLINE_MS', { fallback: 15_000, min: 0, max: 300_000 }),
  }
}
