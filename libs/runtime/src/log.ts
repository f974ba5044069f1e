import { LedgerSchemaError } from '@curfew/domain'
import { pino } from 'pino'
import { type LogDestination, openStandardError } from './log-destination.ts'
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
  isLevelEnabled(level: 'debug' | 'info'): boolean
}

export const LOG_LEVELS = ['debug', 'info', 'warn', 'error', 'silent'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]

export interface LogOptions {
  readonly service: string
  readonly level: LogLevel
  /** Default: standard error. */
  readonly destination?: LogDestination
}

/** Members that are never written, at the top level or up to two levels deeper. */
const SECRETS = new Set([
  ...['authorization', 'logout_token', 'token', 'key', 'password', 'master_key', 'private_key'],
  ...['secret', 'cookie'],
])
const SECRETS_DEPTH = 2
/** A JWT, an API key, or the user and password in a URL, inside a text such as the message of a library's error. */
const SECRET_TEXT = /eyJ[\w-]{8,}(?:\.[\w-]*)*|cfw_[\w-]{16,}|(?<=:\/\/)[^\s"/@]+(?=@)/g
/** Finds a line that may have such a text. Most have none, and the whole pattern is slow. */
const MAYBE_SECRET = /eyJ|cfw_|@/
const CENSORED = '[secret]'

/**
 * Makes a log that writes lines of JSON. Members with secrets are replaced, up to two levels deep, and so are tokens, API keys and
 * the passwords of URLs in texts. Errors and lines about the process are written at once; other lines may wait in memory.
 *
 * Every part of a service fails if the database lacks migrations, so these failures become one plain line a minute; `debug` has
 * each of them.
 */
export function createLog({ service, level, destination = openStandardError() }: LogOptions): Log {
  const lines = pino(
    {
      level,
      base: { service },
      timestamp: pino.stdTimeFunctions.isoTime,
      serializers: { err: (error: unknown) => describeError(error) },
      // pino's own `redact` costs ten times as much as the rest of a line.
      formatters: {
        level: (label) => ({ level: label }),
        log: (line) => withoutSecrets(line, SECRETS_DEPTH),
      },
      hooks: {
        streamWrite: (line) => (MAYBE_SECRET.test(line) ? line.replaceAll(SECRET_TEXT, CENSORED) : line),
      },
    },
    destination,
  )
  const isTime = createThrottle()
  const write = (name: 'info' | 'warn' | 'error') => (line: LogLine) => {
    const error = line.err === undefined ? null : schemaErrorIn(line.err)
    if (error === null) {
      const lost = destination.takeLost?.() ?? 0
      if (lost > 0) lines.error({ event: 'log.lines-lost', lines: lost })
      lines[name](line)
      if (name === 'error' || line.event.startsWith('process.')) destination.flush?.()
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

/** The value, or a copy of it in which members with secrets are replaced. Errors are left to `describeError`. */
function withoutSecrets(value: object, deeper: number): Record<string, unknown> {
  let copy: Record<string, unknown> | null = null
  for (const name in value) {
    const member = (value as Record<string, unknown>)[name]
    const clean = SECRETS.has(name) ? CENSORED : cleanMember(member, deeper)
    if (clean === member) continue
    copy ??= { ...value }
    copy[name] = clean
  }
  return copy ?? (value as Record<string, unknown>)
}

function cleanMember(member: unknown, deeper: number): unknown {
  const isLeaf = typeof member !== 'object' || member === null || member instanceof Error
  if (isLeaf || deeper === 0) return member
  if (!Array.isArray(member)) return withoutSecrets(member, deeper - 1)
  return member.map((item: unknown) => cleanMember(item, deeper - 1))
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
