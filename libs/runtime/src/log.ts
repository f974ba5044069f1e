import { type DestinationStream, type Logger, pino } from 'pino'

/** One line of JSON an event: `log.info({ event: 'delivery.attempted', … })`. Names are `noun.verb-ed`, members are column names. */
export type Log = Pick<Logger, 'debug' | 'info' | 'warn' | 'error'>

export const LOG_LEVELS = ['debug', 'info', 'warn', 'error', 'silent'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]

export interface LogOptions {
  readonly service: string
  readonly level: LogLevel
  /** Default: standard error, which leaves standard output to what a person asked for. */
  readonly destination?: DestinationStream
}

/** Members that are never written, wherever in a line they stand. */
const SECRETS = ['authorization', 'logout_token', 'token', 'key', 'password', 'master_key', 'private_key']

export function createLog({ service, level, destination = pino.destination(2) }: LogOptions): Log {
  return pino(
    {
      level,
      base: { service },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: SECRETS.flatMap((name) => [name, `*.${name}`, `*.*.${name}`]), censor: '[secret]' },
    },
    destination,
  )
}

/** A file that log lines are added to. It and its folder are made if need be. */
export function openLogFile(path: string): DestinationStream {
  return pino.destination({ dest: path, mkdir: true, sync: false })
}
