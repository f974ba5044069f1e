import { randomInt } from 'node:crypto'
import { EventLogUnavailableError, type LogLane, type Quarantined } from '@curfew/domain'
import pg from 'pg'
import { connectionOptions, type Queryable } from '../postgres/database.ts'
import { quarantine } from './quarantine.ts'

/** A record as it lies in the table. */
export interface LogRow {
  readonly partition: number
  /** Unique in the whole log, counting up in the order of appends. */
  readonly position: number
  readonly key: string
  readonly value: Uint8Array
  readonly headers: Readonly<Record<string, string>>
}

/** Where a fetch starts in one partition: behind this position. */
export interface Start {
  readonly partition: number
  readonly floor: number
}

/** One life of a consumer's dedicated connection. With it end its locks, and so its ownership of partitions. */
export interface LogSession {
  /** Rejects when the connection is lost, or anything on it failed. Never resolves. */
  readonly lost: Promise<never>
  fail(error: unknown): void
  /** How many consumers the lane has, and which partitions are taken, by us or others. */
  readLocks(): Promise<{ readonly members: number; readonly locked: ReadonlySet<number> }>
  /** Tries to lock partitions. Returns those that are ours now. */
  take(partitions: readonly number[]): Promise<readonly number[]>
  /** Unlocks partitions and tells the other consumers. */
  give(partitions: readonly number[]): Promise<void>
  /** Records behind each start, in order within their partition. @param without keys that are kept back. */
  fetch(
    starts: readonly Start[],
    options: {
      readonly limit: number
      readonly without?: readonly string[]
      readonly timeoutMs?: number | undefined
    },
  ): Promise<readonly LogRow[]>
  /** Stores what was refused in quarantine, then deletes what was handled. May be repeated. */
  commit(rows: readonly LogRow[], refused: readonly Quarantined[]): Promise<void>
  /** Shows the server that we live. */
  beat(): Promise<void>
  /** Unlocks everything, tells the others and ends. */
  leave(): Promise<void>
  end(): Promise<void>
}

export interface LogSessionOptions {
  readonly url: string
  readonly lane: LogLane
  /** Silence after which PostgreSQL ends the session, in milliseconds. */
  readonly sessionTimeoutMs: number
  /** Told when records were appended. */
  onRecords(): void
  /** Told when a consumer came or went, or gave partitions away. */
  onMembers(): void
}

const RECORDS_CHANNEL = 'curfew_log_records'
const MEMBERS_CHANNEL = 'curfew_log_members'

// Advisory locks in the form of two numbers: the first says what for, the second which.
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
const TELL_MEMBERS = `select pg_notify('${MEMBERS_CHANNEL}', $1)`
const BEAT = 'select'

// Partition by partition, the one whose first record waits longest first, until the batch is full. So under load a batch
// is made of few partitions and leaves the others to the batches beside it.
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

// Exactly the records that were handled are deleted, by position. Positions are given before commits, so a record may
// appear below others that were consumed already; as nothing is skipped by number, it is simply read later.
const COMMIT = `
  delete from log_records
   where lane = $1 and partition = any ($2::smallint[]) and position = any ($3::bigint[])`

/** Connects, joins the lane's consumers and listens. */
export async function openLogSession({
  url,
  lane,
  sessionTimeoutMs,
  onRecords,
  onMembers,
}: LogSessionOptions): Promise<LogSession> {
  // Shorter than the server's patience: who cannot reach the server stops before his locks go to another.
  const patienceMs = Math.ceil(sessionTimeoutMs / 2)
  const client = new pg.Client({
    ...connectionOptions(url, {
      applicationName: `curfew ${lane} consumer`,
      statementTimeoutMs: 60_000,
      connectTimeoutMs: patienceMs,
    }),
    query_timeout: patienceMs,
  })
  const lost = Promise.withResolvers<never>()
  // Whoever waits for it at the time is told; nobody has to.
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
  const tellMembers = () => query({ text: TELL_MEMBERS, values: [lane] })
  const end = () => client.end().catch(ignore)

  try {
    await client.connect()
    // A frozen or unreachable owner is silent: the server then ends its session and frees its locks. And the table's size
    // swings so much that a plan made while it was small must not be a scan of the whole.
    await query({ text: `set idle_session_timeout = ${sessionTimeoutMs}; set enable_seqscan = off` })
    await query({ text: `listen ${RECORDS_CHANNEL}; listen ${MEMBERS_CHANNEL}` })
    await query({ text: JOIN, values: [MEMBER_LOCK[lane], randomInt(2 ** 31 - 1)] })
    await tellMembers()
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
      await tellMembers()
    },
    fetch: (starts, { limit, without = [], timeoutMs = patienceMs }) =>
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
      // First: after a crash in between the records come again, and are quarantined once.
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
      await tellMembers()
      await end()
    },
    end,
  }
}

/** Anything that failed, as the port's error. */
export function asEventLogError(error: unknown): unknown {
  // A record that PostgreSQL would never take: trying again is no use.
  if (error instanceof EventLogUnavailableError || isBadData(error)) return error
  const reason = error instanceof Error ? error.message : String(error)
  return new EventLogUnavailableError(`the event log is not available: ${reason}`, { cause: error })
}

/** SQLSTATE class 22, data exception. */
export function isBadData(error: unknown): boolean {
  const { code } = error as { code?: unknown }
  return typeof code === 'string' && /^22...$/.test(code)
}

function ignore(): undefined {
  return undefined
}
