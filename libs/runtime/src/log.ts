import { LedgerSchemaError } from '@curfew/domain'
import { type DestinationStream, pino } from 'pino'
import { createThrottle } from './seldom.ts'

/** One event, named `noun.verb-ed`. Its other members have the names of columns. An error goes under `err`. */
export interface LogLine {
  readonly event: string
  readonly [member: string]: unknown
}

/** One line of JSON for each event: `log.info({ event: 'delivery.attempted', … })`. */
export interface Log {
  debug(line: LogLine): void
  info(line: LogLine): void
  warn(line: LogLine): void
  error(line: LogLine): void
  /** Whether lines of this level are written. Callers skip costly lines, such as one for each of very many items, if not. */
  isLevelEnabled(level: 'debug'): boolean
}

export const LOG_LEVELS = ['debug', 'info', 'warn', 'error', 'silent'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]

export interface LogOptions {
  readonly service: string
  readonly level: LogLevel
  /** Default: standard error, which leaves standard output to requested output. */
  readonly destination?: DestinationStream
}

/** Members that are never written, at the top level or up to two levels deeper. */
const SECRETS = ['authorization', 'logout_token', 'token', 'key', 'password', 'master_key', 'private_key']

/**
 * Makes a log that writes lines of JSON. Members with secrets are replaced, up to two levels deep. Every part of a service fails
 * if the database lacks migrations, so these failures become one plain line a minute; `debug` has each of them.
 */
export function createLog({ service, level, destination = pino.destination(2) }: LogOptions): Log {
  const lines = pino(
    {
      level,
      base: { service },
      timestamp: pino.stdTimeFunctions.isoTime,
      serializers: { err: (error: unknown) => describeError(error) },
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: SECRETS.flatMap((name) => [name, `*.${name}`, `*.*.${name}`]), censor: '[secret]' },
    },
    destination,
  )
  const isTime = createThrottle()
  const write = (name: 'info' | 'warn' | 'error') => (line: LogLine) => {
    const error = line.err === undefined ? null : schemaErrorIn(line.err)
    if (error === null) {
      lines[name](line)
      return
    }
    const event = 'ledger.not-migrated'
    if (isTime(event)) {
      const { message, cause } = error
      lines.error({ event, message, ...(cause instanceof Error && { reason: cause.message }) })
    }
    lines.debug(line)
  }
  return {
    debug: (line) => lines.debug(line),
    info: write('info'),
    warn: write('warn'),
    error: write('error'),
    isLevelEnabled: (name) => lines.isLevelEnabled(name),
  }
}

/** The error, or the cause of it, that reports missing migrations; null if there is none. */
function schemaErrorIn(error: unknown): LedgerSchemaError | null {
  if (error instanceof LedgerSchemaError) return error
  return error instanceof Error && error.cause !== undefined ? schemaErrorIn(error.cause) : null
}

/** Opens a file for log lines to be appended. Makes the file and its folder if they are missing. */
export function openLogFile(path: string): DestinationStream {
  // Synchronous, because the last line before a crash is the one that people look for.
  return pino.destination({ dest: path, mkdir: true, sync: true })
}

/** An error as the log shows it. */
export interface ErrorDescription {
  readonly type: string
  readonly message: string
  readonly code?: string
  readonly stack?: string
  readonly cause?: ErrorDescription
  /** The errors of an AggregateError, such as those of a host's addresses that were all tried. */
  readonly errors?: readonly ErrorDescription[]
}

const CAUSES_MAX = 5
const ERRORS_MAX = 10

/**
 * Describes an error and its causes. Only known members are included. Others are unfit for logs, such as PostgreSQL's `detail`,
 * which holds the values of the row.
 */
export function describeError(error: unknown, causesMax: number = CAUSES_MAX): ErrorDescription {
  if (!(error instanceof Error)) return { type: typeof error, message: String(error) }
  const { name, message, stack, cause } = error
  const deeper = causesMax > 0
  return {
    type: name,
    message,
    ...('code' in error && { code: String(error.code) }),
    ...(stack !== undefined && { stack }),
    ...(deeper && cause !== undefined && { cause: describeError(cause, causesMax - 1) }),
    ...(deeper &&
      error instanceof AggregateError && {
        errors: error.errors
          .slice(0, ERRORS_MAX)
          .map((inner: unknown) => describeError(inner, causesMax - 1)),
      }),
  }
}
