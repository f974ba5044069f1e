import { setTimeout as sleep } from 'node:timers/promises'
import { LedgerSchemaError, LedgerUnavailableError, QueryTimeoutError } from '@curfew/domain'
import pg from 'pg'
import { toTime } from './times.ts'

/** One SQL statement. A statement with a `name` is prepared once for each connection. */
export interface Statement {
  readonly name?: string
  readonly text: string
  readonly values?: readonly unknown[]
  /** Longest wait for the answer, in milliseconds. Default: that of the pool. */
  readonly timeoutMs?: number
}

export interface Rows<Row> {
  readonly rows: Row[]
  /** Rows returned or changed; null for statements without such a number. */
  readonly rowCount: number | null
}

/** The database itself, or one transaction in it. Both run statements. */
export interface Queryable {
  /**
   * Runs one statement. It returns `bigint` as a number and `timestamptz` as a Date.
   *
   * @throws {LedgerUnavailableError} when PostgreSQL cannot be reached or ended the connection.
   * @throws {LedgerSchemaError} when a table, column or function of this release is missing.
   * @throws {Error} of `pg`, with the SQLSTATE in `code`, when PostgreSQL refuses the statement itself.
   */
  query<Row extends object = Record<string, unknown>>(
    statement: Statement | string,
    values?: readonly unknown[],
  ): Promise<Rows<Row>>
}

/** A pool of connections to one PostgreSQL database. */
export interface Database extends Queryable {
  /** Counts of open connections, of idle ones, and of calls that wait for a connection. */
  readonly connections: { readonly open: number; readonly idle: number; readonly waiting: number }
  /** Runs `work` on a connection of its own. Afterwards the connection returns to the pool, or is closed if it is broken. */
  withConnection<Result>(work: (connection: pg.PoolClient) => Promise<Result>): Promise<Result>
  /** Waits until the running statements have ended, then closes every connection. Idempotent. */
  end(): Promise<void>
}

export interface DatabaseOptions {
  /** Most connections open at once. Default 10. */
  readonly poolMax?: number
  /** Shown in `pg_stat_activity`. Default `curfew`. */
  readonly applicationName?: string
  /** PostgreSQL cancels a statement after this time, in milliseconds; 0: never. Default 30,000. */
  readonly statementTimeoutMs?: number
  /** Longest wait for a free or new connection, in milliseconds. Default 5,000. */
  readonly connectTimeoutMs?: number
  /** Called when an idle connection breaks. The pool replaces it by itself. */
  readonly onIdleError?: (error: unknown) => void
}

export interface OpenDatabaseOptions extends DatabaseOptions {
  /** Aborts the attempts to connect. */
  readonly signal?: AbortSignal
  /** Longest time for the first connection to succeed, in milliseconds. Default 30,000. */
  readonly openTimeoutMs?: number
  /** Called once, when the first attempt failed and another follows. */
  readonly onWait?: (error: LedgerUnavailableError) => void
}

/** Where and how to connect, as `pg` takes it. */
export type ConnectionOptions = pg.ClientConfig

/**
 * SQLSTATE classes and codes of a server that is unavailable, shutting down or out of resources, and of a transaction that was
 * rolled back because of another one. The same call may succeed later.
 */
const UNAVAILABLE_STATES = /^(?:08...|40001|40P01|53...|57P0[1235]|57014|25006|25P0[34]|58030)$/
/** A table, column or function of this release is missing. */
const UNDEFINED = new Set<unknown>(['42P01', '42703', '42883'])
/** The statement timeout cancelled the statement. */
const QUERY_CANCELED = '57014'
/** A migration changed the result type of a prepared statement. The statement fails until its connection is closed. */
const STALE_PLAN = '0A000'
const UNAVAILABLE_ERRNOS = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ECONNABORTED',
  'EPIPE',
  'ETIMEDOUT',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'EHOSTDOWN',
  'ENETUNREACH',
  'ENETDOWN',
  'ENOENT',
])
/** Messages of the errors that `pg` throws without a code when a connection is lost or cannot be opened. */
const UNAVAILABLE_MESSAGES =
  /^(?:Connection terminated|timeout expired|timeout exceeded when trying to connect|Query read timeout|Client has encountered a connection error|Client was closed|The server does not support SSL)/

/** Whether `error` says that PostgreSQL is unavailable or ended the connection, rather than that the statement is wrong. */
export function isUnavailable(error: unknown): boolean {
  if (error instanceof LedgerUnavailableError) return true
  if (!(error instanceof Error)) return false
  const { code } = error as { code?: unknown }
  if (typeof code === 'string') return UNAVAILABLE_STATES.test(code) || UNAVAILABLE_ERRNOS.has(code)
  return UNAVAILABLE_MESSAGES.test(error.message)
}

/** Whether PostgreSQL refused the password. */
export function isWrongPassword(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === '28P01'
}

function isStalePlan(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === STALE_PLAN
}

/** Maps errors of PostgreSQL to a LedgerUnavailableError or LedgerSchemaError. Returns other errors unchanged. */
export function asLedgerError(error: unknown): unknown {
  const code = error instanceof Error && 'code' in error ? error.code : null
  if (UNDEFINED.has(code))
    return new LedgerSchemaError('The database lacks migrations of this release. Run: npx curfew migrate', {
      cause: error,
    })
  if (error instanceof LedgerUnavailableError || !isUnavailable(error)) return error
  const reason = error instanceof Error ? error.message || String(code) : ''
  if (code === QUERY_CANCELED)
    return new QueryTimeoutError(`PostgreSQL cancelled a statement that took too long: ${reason}`, {
      cause: error,
    })
  return new LedgerUnavailableError(`PostgreSQL is not available: ${reason}`, { cause: error })
}

const INT8_OID = 20
const TIMESTAMPTZ_OID = 1184
const parseTime: (text: string) => unknown = pg.types.getTypeParser(TIMESTAMPTZ_OID, 'text')
/**
 * The parsers of values, for our connections only: other code may rely on the global parsers of `pg`.
 * Our bigints are identities and counters, far below 2^53. Every time becomes a valid Date: see times.ts.
 */
const types: pg.CustomTypesConfig = {
  getTypeParser: ((oid: number, format?: 'text' | 'binary') => {
    if (format === 'binary') return pg.types.getTypeParser(oid, format)
    if (oid === INT8_OID) return Number
    if (oid === TIMESTAMPTZ_OID) return (text: string) => toTime(parseTime(text), text)
    return pg.types.getTypeParser(oid, format)
  }) as pg.CustomTypesConfig['getTypeParser'],
}

/** Creates a pool that connects when it is first used, so that a service can start while PostgreSQL is unavailable. */
export function createDatabase(
  url: string,
  {
    poolMax = 10,
    applicationName = 'curfew',
    statementTimeoutMs = 30_000,
    connectTimeoutMs = 5_000,
    onIdleError,
  }: DatabaseOptions = {},
): Database {
  const pool = new pg.Pool({
    ...connectionOptions(url, { applicationName, statementTimeoutMs, connectTimeoutMs }),
    max: poolMax,
    idleTimeoutMillis: 60_000,
    // A connection without an age limit would never move to the new primary after a failover, or to a rebalanced pooler.
    maxLifetimeSeconds: 1_800,
  })
  // Without a listener the loss of an idle connection would end the process. The pool has replaced the connection already.
  pool.on('error', (error) => onIdleError?.(error))
  // A connection has no listener between the pool's and that of `withConnection`. The server's shutdown message may arrive just
  // then, in one packet with "ready". This listener keeps the process alive. The next statement on the connection fails.
  pool.on('connect', (connection) => connection.on('error', ignore))

  async function withConnection<Result>(
    work: (connection: pg.PoolClient) => Promise<Result>,
  ): Promise<Result> {
    let connection: pg.PoolClient
    try {
      connection = await pool.connect()
    } catch (error) {
      throw asLedgerError(error)
    }
    let broken = false
    const onError = () => {
      broken = true
    }
    connection.on('error', onError)
    try {
      return await work(connection)
    } catch (error) {
      // After a lost answer the state of the connection is unknown: another caller could read that answer as its own.
      if (isUnavailable(error) || isStalePlan(error)) broken = true
      throw asLedgerError(error)
    } finally {
      connection.off('error', onError)
      connection.release(broken)
    }
  }

  let ended: Promise<void> | null = null
  return {
    get connections() {
      return { open: pool.totalCount, idle: pool.idleCount, waiting: pool.waitingCount }
    },
    withConnection,
    query: (statement, values) =>
      withConnection((connection) => createQueryable(connection).query(statement, values)),
    end: () => {
      ended ??= pool.end()
      return ended
    },
  }
}

/**
 * Creates a pool and waits until one connection works. It retries while the server is unavailable. A wrong password or database
 * is thrown at once.
 *
 * @throws {LedgerUnavailableError} when PostgreSQL does not answer within `openTimeoutMs`, or `signal` aborts.
 */
export async function openDatabase(
  url: string,
  { signal, openTimeoutMs = 30_000, onWait, ...options }: OpenDatabaseOptions = {},
): Promise<Database> {
  const db = createDatabase(url, options)
  const deadline = Date.now() + openTimeoutMs
  for (let pauseMs = 50; ; pauseMs = Math.min(pauseMs * 2, 1_000)) {
    try {
      await db.query('select 1')
      return db
    } catch (error) {
      const unavailable = error instanceof LedgerUnavailableError
      if (!unavailable || signal?.aborted || Date.now() + pauseMs > deadline) {
        await db.end()
        throw error
      }
      if (pauseMs === 50) onWait?.(error)
    }
    // An abort ends the pause early. The next attempt is then the last.
    await sleep(pauseMs, undefined, signal === undefined ? {} : { signal }).catch(ignore)
  }
}

/**
 * Runs `work` in one transaction, which commits when `work` resolves and rolls back when it rejects.
 *
 * @throws {LedgerUnavailableError} when the connection was lost. If it was lost during the commit, the transaction may have been
 * committed. Therefore `work` must be repeatable.
 */
export function withTransaction<Result>(
  db: Database,
  work: (transaction: Queryable) => Promise<Result>,
): Promise<Result> {
  return db.withConnection(async (connection) => {
    await connection.query('begin')
    try {
      const result = await work(createQueryable(connection))
      await connection.query('commit')
      return result
    } catch (error) {
      // If the rollback cannot be sent, the connection is lost and PostgreSQL rolls back. The first error says more.
      if (!isUnavailable(error)) await connection.query('rollback').catch(ignore)
      throw error
    }
  })
}

/** Options of one connection to `url`. Keepalive detects a peer that vanished. */
export function connectionOptions(
  url: string,
  {
    applicationName,
    statementTimeoutMs,
    connectTimeoutMs,
  }: { applicationName: string; statementTimeoutMs: number; connectTimeoutMs: number },
): ConnectionOptions {
  return {
    connectionString: url,
    application_name: applicationName,
    connectionTimeoutMillis: connectTimeoutMs,
    statement_timeout: statementTimeoutMs,
    // The server's cancellation cannot arrive through a dead network. This timeout of ours ends the wait then.
    ...(statementTimeoutMs > 0 ? { query_timeout: statementTimeoutMs + 2_000 } : {}),
    keepAlive: true,
    keepAliveInitialDelayMillis: 5_000,
    types,
  }
}

function createQueryable(connection: pg.ClientBase): Queryable {
  return {
    async query<Row extends object>(statement: Statement | string, values?: readonly unknown[]) {
      const config = typeof statement === 'string' ? { text: statement } : statement
      const given = values ?? config.values
      try {
        const { rows, rowCount } = await connection.query<Row & pg.QueryResultRow>({
          text: config.text,
          ...(config.name === undefined ? {} : { name: config.name }),
          ...(given === undefined ? {} : { values: [...given] }),
          ...(config.timeoutMs === undefined ? {} : { query_timeout: config.timeoutMs }),
        })
        return { rows, rowCount }
      } catch (error) {
        throw asLedgerError(error)
      }
    },
  }
}

function ignore(): undefined {
  return undefined
}
