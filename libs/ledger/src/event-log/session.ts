import { randomInt } from 'node:crypto'
import { EventLogUnavailableError, type LogLane, type Quarantined } from '@curfew/domain'
import pg from 'pg'
import { connectionOptions, type Queryable } from '../postgres/database.ts'
import { quarantine } from './quarantine.ts'

/** A row of the table of records. */
export interface LogRow {
  readonly partition: number
  /** Unique in the whole log. It grows in the order of appends. */
  readonly position: number
  readonly key: string
  readonly value: Uint8Array
  readonly headers: Readonly<Record<string, string>>
}

/** The start of a fetch in one partition. */
export interface Start {
  readonly partition: number
  /** The fetch reads behind this position. */
  readonly floor: number
}

/** A consumer's dedicated connection. Its locks, and so its ownership of partitions, end with it. */
export interface LogSession {
  /** Rejects when the connection is lost or a statement on it failed. Never resolves. */
  readonly lost: Promise<never>
  fail(error: unknown): void
  /** Reads the number of consumers of the lane, and the partitions that any consumer has locked. */
  readLocks(): Promise<{ readonly members: number; readonly locked: ReadonlySet<number> }>
  /** Tries to lock partitions. @returns those that it locked. */
  take(partitions: readonly number[]): Promise<readonly number[]>
  /** Unlocks partitions and notifies the other consumers. */
  give(partitions: readonly number[]): Promise<void>
  /** Reads records behind each start, in order within their partition. `without`: keys to leave out. */
  fetch(
    starts: readonly Start[],
    options: {
      readonly limit: number
      readonly without?: readonly string[]
      readonly timeoutMs?: number | undefined
    },
  ): Promise<readonly LogRow[]>
  /** Stores refused records in quarantine, then deletes the handled records. Idempotent. */
  commit(rows: readonly LogRow[], refused: readonly Quarantined[]): Promise<void>
  /** Sends a heartbeat to the server. */
  beat(): Promise<void>
  /** Unlocks all partitions, notifies the other consumers and ends the session. */
  leave(): Promise<void>
  end(): Promise<void>
}

export interface LogSessionOptions {
  readonly url: string
  readonly lane: LogLane
  /** PostgreSQL ends a session that is silent for this time, in milliseconds. */
  readonly sessionTimeoutMs: number
  /** Called when records were appended. */
  onRecords(): void
  /** Called when a consumer joined, left or gave partitions away. */
  onMembers(): void
}

const RECORDS_CHANNEL = 'curfew_log_records'
const MEMBERS_CHANNEL = 'curfew_log_members'

// Advisory locks with two numbers: the first is the purpose, the second the partition or member.
const PARTITION_LOCK: Record<LogLane, number> = {
  interactive: 1_129_664_001,
  bulk: 1_129_664_002,
  sessions: 1_129_664_003,
}
const MEMBER_LOCK: Record<LogLane, number> = {
  interactive: 1_129_664_101,
  bulk: 1_129_664_102,
  sessions: 1_129_664_103,
}

const JOIN = 'select pg_advisory_lock($1::int, $2::int)'
const READ_LOCKS = `
  select classid::bigint, objid::bigint
    from pg_locks
   where locktype = 'advisory' and objsubid = 2 and granted and classid::bigint in ($1, $2)
     and database = (select oid from pg_database where datname = current_database())`
const TAKE = `
  select partition from unnest($2::int[]) as wanted (partition) where pg_try_advisory_lock($1::int, partition)`
const GIVE = `
  select pg_advisory_unlock($1::int, partition) from unnest($2::int[]) as given (partition)`
const GIVE_ALL = 'select pg_advisory_unlock_all()'
const NOTIFY_MEMBERS = `select pg_notify('${MEMBERS_CHANNEL}', $1)`
const BEAT = 'select'

// Fills the batch partition by partition, beginning with the oldest record. So under load a batch has few partitions and leaves
// the others to parallel batches.
const FETCH = `
  select record.partition, record.position, record.key, record.value, record.headers
    from (
      select given.partition, (
               select position from log_records
                where lane = $1 and partition = given.partition and position > given.floor and key <> all ($5::text[])
                order by position limit 1
             ) as head
        from unnest($2::smallint[], $3::bigint[]) as given (partition, floor)
       order by head
    ) as waiting
    cross join lateral (
      select partition, position, key, value, headers from log_records
       where lane = $1 and partition = waiting.partition and position >= waiting.head and key <> all ($5::text[])
       order by position limit $4
    ) as record
   limit $4`

// Deletes exactly the handled records, by position. PostgreSQL assigns positions before the commit, so that a record may appear
// below consumed ones. It is read later, because consumers do not skip positions.
const COMMIT = `
  delete from log_records
   where lane = $1 and partition = any ($2::smallint[]) and position = any ($3::bigint[])`

/** Connects, joins the consumers of the lane and listens. */
export async function openLogSession({
  url,
  lane,
  sessionTimeoutMs,
  onRecords,
  onMembers,
}: LogSessionOptions): Promise<LogSession> {
  // Shorter than the server's timeout, so that a consumer without a server stops before its partitions go to another consumer.
  const answerTimeoutMs = Math.ceil(sessionTimeoutMs / 2)
  const client = new pg.Client({
    ...connectionOptions(url, {
      applicationName: `curfew ${lane} consumer`,
      statementTimeoutMs: 60_000,
      connectTimeoutMs: answerTimeoutMs,
    }),
    query_timeout: answerTimeoutMs,
  })
  const lost = Promise.withResolvers<never>()
  // Avoids an unhandled rejection if nothing waits for the promise.
  lost.promise.catch(ignore)
  client.on('error', lost.reject)
  client.on('end', () => lost.reject(new Error('Connection terminated')))
  client.on('notification', ({ channel, payload }) => {
    if (payload !== lane) return
    if (channel === RECORDS_CHANNEL) onRecords()
    else onMembers()
  })

  let last: Promise<unknown> = Promise.resolve()
  /** Runs statements one after the other, in the order of the calls. */
  function query<Row extends pg.QueryResultRow>(
    config: pg.QueryConfig & { query_timeout?: number },
  ): Promise<Row[]> {
    const answer = last.then(() => client.query<Row>(config))
    last = answer.catch(ignore)
    return answer.then(({ rows }) => rows)
  }
  const queryable: Queryable = {
    async query<Row extends object>(statement: Parameters<Queryable['query']>[0]) {
      const { text, name, values } = typeof statement === 'string' ? { text: statement } : statement
      const rows = await query<Row & pg.QueryResultRow>({
        text,
        ...(name !== undefined && { name }),
        ...(values !== undefined && { values: [...values] }),
      })
      return { rows, rowCount: null }
    },
  }
  const notifyMembers = () => query({ text: NOTIFY_MEMBERS, values: [lane] })
  const end = () => client.end().catch(ignore)

  try {
    await client.connect()
    // The server ends the session of a silent owner, which is frozen or unreachable, and frees its locks. Sequential scans are
    // off because the table's size varies, and a plan made for a small table would scan a large one.
    await query({ text: `set idle_session_timeout = ${sessionTimeoutMs}; set enable_seqscan = off` })
    await query({ text: `listen ${RECORDS_CHANNEL}; listen ${MEMBERS_CHANNEL}` })
    await query({ text: JOIN, values: [MEMBER_LOCK[lane], randomInt(2 ** 31 - 1)] })
    await notifyMembers()
  } catch (error) {
    await end()
    throw error
  }

  return {
    lost: lost.promise,
    fail: lost.reject,
    async readLocks() {
      const rows = await query<{ classid: number; objid: number }>({
        name: 'read_log_locks',
        text: READ_LOCKS,
        values: [MEMBER_LOCK[lane], PARTITION_LOCK[lane]],
      })
      const partitions = rows.filter(({ classid }) => classid === PARTITION_LOCK[lane])
      return {
        members: rows.length - partitions.length,
        locked: new Set(partitions.map(({ objid }) => objid)),
      }
    },
    async take(partitions) {
      const values = [PARTITION_LOCK[lane], [...partitions]]
      const rows = await query<{ partition: number }>({ text: TAKE, values })
      return rows.map(({ partition }) => partition)
    },
    async give(partitions) {
      await query({ text: GIVE, values: [PARTITION_LOCK[lane], [...partitions]] })
      await notifyMembers()
    },
    fetch: (starts, { limit, without = [], timeoutMs = answerTimeoutMs }) =>
      query<LogRow>({
        name: 'fetch_log_records',
        text: FETCH,
        values: [
          lane,
          starts.map(({ partition }) => partition),
          starts.map(({ floor }) => floor),
          limit,
          [...without],
        ],
        query_timeout: timeoutMs,
      }),
    async commit(rows, refused) {
      // Quarantines first: after a crash before the delete, the records are read and quarantined again, with the same result.
      if (refused.length > 0) await quarantine(queryable, refused)
      await query({
        name: 'commit_log_records',
        text: COMMIT,
        values: [
          lane,
          [...new Set(rows.map(({ partition }) => partition))],
          rows.map(({ position }) => position),
        ],
      })
    },
    async beat() {
      await query({ text: BEAT })
    },
    async leave() {
      await query({ text: GIVE_ALL })
      await notifyMembers()
      await end()
    },
    end,
  }
}

/** Maps an error to EventLogUnavailableError, except an error about the data of a record. */
export function asEventLogError(error: unknown): unknown {
  // PostgreSQL would refuse the record again.
  if (error instanceof EventLogUnavailableError || isBadData(error)) return error
  const reason = error instanceof Error ? error.message : String(error)
  return new EventLogUnavailableError(`the event log is not available: ${reason}`, { cause: error })
}

/** Whether PostgreSQL refused a value: SQLSTATE class 22, data exception. */
export function isBadData(error: unknown): boolean {
  const { code } = error as { code?: unknown }
  return typeof code === 'string' && /^22...$/.test(code)
}

function ignore(): undefined {
  return undefined
}
