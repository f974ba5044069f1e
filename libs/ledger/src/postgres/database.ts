import { setTimeout as sleep } from 'node:timers/promises'
import { LedgerSchemaError, LedgerUnavailableError, QueryTimeoutError } from '@curfew/domain'
import pg from 'pg'
import { toTime } from './times.ts'

/** One SQL statement. With a `name` it is prepared once for each connection and then called by that name. */
export interface Statement {
  readonly name?: string
  readonly text: string
  readonly values?: readonly unknown[]
  /** Longest wait for the answer, in milliseconds, where it is not the pool's. */
  readonly timeoutMs?: number
}

export interface Rows<Row> {
  readonly rows: Row[]
  /** Rows returned or touched; null for statements that have no such number. */
  readonly rowCount: number | null
}

/** What takes statements: the database itself, or one transaction in it. */
export interface Queryable {
  /**
   * Runs one statement. `bigint` comes as a number, `timestamptz` as a Date.
   *
   * @throws {LedgerUnavailableError} when PostgreSQL cannot be reached or ended the connection. What PostgreSQL says
   * against the statement itself is thrown as it comes, with its SQLSTATE in `code`.
   * @throws {LedgerSchemaError} when a table, column or function of this release is not there.
   */
  query<Row extends object = Record<string, unknown>>(
    statement: Statement | string,
    values?: readonly unknown[],
  ): Promise<Rows<Row>>
}

/** A pool of connections to one PostgreSQL database. */
export interface Database extends Queryable {
  /** Connections open now, and calls that wait for one. */
  readonly connections: { readonly open: number; readonly idle: number; readonly waiting: number }
  /** Runs `work` on one connection of its own, which goes back to the pool, or is closed where it is broken. */
  withConnection<Result>(work: (connection: pg.PoolClient) => Promise<Result>): Promise<Result>
  /** Closes every connection once what runs on it has ended. Idempotent. */
  end(): Promise<void>
}

export interface DatabaseOptions {
  /** Most connections open at once. Default 10. */
  readonly poolMax?: number
  /** Shown in `pg_stat_activity`. Default `curfew`. */
  readonly applicationName?: string
  /** After this PostgreSQL gives a statement up, in milliseconds; 0 is never. Default 30,000. */
  readonly statementTimeoutMs?: number
  /** Longest wait for a connection, be it a free one or a new one, in milliseconds. Default 5,000. */
  readonly connectTimeoutMs?: number
  /** Told when a connection breaks that nobody is using. The pool replaces it by itself. */
  readonly onIdleError?: (error: unknown) => void
}

export interface OpenDatabaseOptions extends DatabaseOptions {
  /** Ends the attempts to connect. */
  readonly signal?: AbortSignal
  /** How long the first connection is tried for, in milliseconds. Default 30,000. */
  readonly openTimeoutMs?: number
  /** Told once, when the first try was in vain and another follows. */
  readonly onWait?: (error: LedgerUnavailableError) => void
}

/** Where and how to connect, in the words of `pg`. */
export type ConnectionOptions = pg.ClientConfig

/**
 * SQLSTATE classes and codes of a server that is away, going away, or out of resources, and of a transaction that was undone for
 * another's sake: the same call may succeed later.
 */
const UNAVAILABLE_STATES = /^(?:08...|40001|40P01|53...|57P0[1235]|57014|25006|25P0[34]|58030)$/
/** A table, a column or a function that this release has is not there. */
const UNDEFINED = new Set<unknown>(['42P01', '42703', '42883'])
/** The statement timeout ended the statement. */
const QUERY_CANCELED = '57014'
/** A migration changed what a statement returns that the connection has prepared. It fails for as long as the connection lives. */
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
/** What `pg` throws without a code when a connection is lost or none is to be had. */
const UNAVAILABLE_MESSAGES =
  /^(?:Connection terminated|timeout expired|timeout exceeded when trying to connect|Query read timeout|Client has encountered a connection error|Client was closed|The server does not support SSL)/

/** Whether `error` says that PostgreSQL is away, or ended the connection, rather than that the statement is wrong. */
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

/** `error` as a LedgerUnavailableError or LedgerSchemaError where it is one by nature; anything else comes back as it is. */
export function asLedgerError(error: unknown): unknown {
  const code = error instanceof Error && 'code' in error ? error.code : null
  if (UNDEFINED.has(code))
    return new LedgerSchemaError('The database lacks migrations of this release. Run: npx curfew migrate', {
      cause: error,
    })
  if (error instanceof LedgerUnavailableError || !isUnavailable(error)) return error
  const reason = error instanceof Error ? error.message || String(code) : ''
  if (code === QUERY_CANCELED)
    return new QueryTimeoutError(`PostgreSQL gave a statement up: ${reason}`, { cause: error })
  return new LedgerUnavailableError(`PostgreSQL is not available: ${reason}`, { cause: error })
}

const INT8_OID = 20
const TIMESTAMPTZ_OID = 1184
const parseTime: (text: string) => unknown = pg.types.getTypeParser(TIMESTAMPTZ_OID, 'text')
/**
 * Text in, values out, for our connections only: `pg` has one global table which others may rely on.
 * Our bigints are identities and counters, far below 2^53. Every time is a valid Date: see times.ts.
 */
const types: pg.CustomTypesConfig = {
  getTypeParser: ((oid: number, format?: 'text' | 'binary') => {
    if (format === 'binary') return pg.types.getTypeParser(oid, format)
    if (oid === INT8_OID) return Number
    if (oid === TIMESTAMPTZ_OID) return (text: string) => toTime(parseTime(text), text)
    return pg.types.getTypeParser(oid, format)
  }) as pg.CustomTypesConfig['getTypeParser'],
}

/** A pool for `url` that opens its connections when they are first needed, so that a service can start while PostgreSQL is away. */
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
    // A connection that lives for ever never finds the new primary after a failover, nor the rebalanced pooler.
    maxLifetimeSeconds: 1_800,
  })
  // Without a listener the loss of an idle connection would end the process; the pool has replaced it already.
  pool.on('error', (error) => onIdleError?.(error))
  // Between the pool's listener and ours there is a moment in which a connection has none, and what says that it is ready may
  // come together with what says that the server is gone. Whoever uses it next is told that it is broken.
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
      // Its state is unknown after a lost answer: another caller must not read that answer as its own.
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
 * A pool for `url` of which one connection has been seen to work. A server that is away is waited for; a wrong password
 * or database is thrown at once.
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
    // An abort ends the pause early; the attempt after it is then the last.
    await sleep(pauseMs, undefined, signal === undefined ? {} : { signal }).catch(ignore)
  }
}

/**
 * Runs `work` in one transaction: committed when it resolves, rolled back when it rejects.
 *
 * @throws {LedgerUnavailableError} when the connection was lost. If that was during the commit, nobody knows whether
 * it took place: `work` has to be such that it can be done again.
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
      // When the rollback cannot be sent the connection is gone, and the transaction with it; the first error says more.
      if (!isUnavailable(error)) await connection.query('rollback').catch(ignore)
      throw error
    }
  })
}

/** Options for one connection to `url`, with keepalive so that a peer which vanished is noticed. */
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
    // The server's own timeout cannot answer through a dead network; this one then does.
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
