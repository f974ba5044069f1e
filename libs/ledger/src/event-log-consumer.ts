import { randomInt } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  type BatchHandler,
  type ConsumedRecord,
  type ConsumeOptions,
  type Consumer,
  EventLogUnavailableError,
  type Lane,
} from '@curfew/domain'
import pg from 'pg'
import { connectionOptions } from './database.ts'

export interface PostgresConsumerSettings {
  readonly url: string
  readonly partitions: number
  readonly heartbeatMs: number
  readonly sessionTimeoutMs: number
}

interface Row {
  readonly partition: number
  readonly position: number
  readonly key: string
  readonly value: Uint8Array
  readonly headers: Readonly<Record<string, string>>
}

/** A partition that this connection holds the lock of. */
interface Owned {
  readonly partition: number
  /** Fetches start behind this position; see `raiseFloor`. */
  floor: number
  /** The highest position committed, and what that was at `raisedAt`. */
  committed: number
  committedBefore: number
  raisedAt: number
  /** The next fetch starts at the beginning. */
  sweeping: boolean
  sweptAt: number
  /** To be given to another consumer once nothing of it is being handled. */
  leaving: boolean
}

/** One life of the dedicated connection. With it go the locks, and so the ownership. */
interface Session {
  readonly client: pg.Client
  readonly owned: Map<number, Owned>
  ended: boolean
  fetching: boolean
  /** Something may have come since the fetch under way began. */
  again: boolean
  /** Resolves when members or locks changed. Replaced each time. */
  changed: PromiseWithResolvers<void>
  /** Rejects when the connection is lost. */
  readonly lost: PromiseWithResolvers<never>
}

// Advisory locks in the form of two numbers: the first says what for, the second which.
const PARTITION_LOCK: Record<Lane, number> = { interactive: 1_129_664_001, bulk: 1_129_664_002 }
const MEMBER_LOCK: Record<Lane, number> = { interactive: 1_129_664_101, bulk: 1_129_664_102 }

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
const TELL_MEMBERS = `select pg_notify('curfew_log_members', $1)`
const LEAVE = 'select pg_advisory_unlock_all()'

// Partition by partition, the one whose first record waits longest first, until the batch is full. So under load a batch
// is made of few partitions and leaves the others to the batches beside it.
const FETCH = `
  select record.partition, record.position, record.key, record.value, record.headers
    from (
      select given.partition, (
               select position from log_records
                where lane = $1 and partition = given.partition and position > given.floor
                order by position limit 1
             ) as head
        from unnest($2::smallint[], $3::bigint[]) as given (partition, floor)
       order by head
    ) as waiting
    cross join lateral (
      select partition, position, key, value, headers from log_records
       where lane = $1 and partition = waiting.partition and position >= waiting.head
       order by position limit $4
    ) as record
   limit $4`

// Exactly the records that were handled are deleted, by position. Positions are given before commits, so a record may
// appear below others that were consumed already; as nothing is skipped by number, it is simply read later.
const COMMIT = `
  with quarantined as (
    insert into quarantined_records (lane, log_position, key, value, headers, reason)
    select lane, partition || '/' || position, key, value, headers, reason
      from log_records join unnest($4::bigint[], $5::text[]) as refused (refused_position, reason)
        on position = refused_position
     where lane = $1 and partition = any ($2::smallint[])
        on conflict (lane, log_position) do nothing
  )
  delete from log_records
   where lane = $1 and partition = any ($2::smallint[]) and position = any ($3::bigint[])`

const FLOOR_MS = 5_000
const SWEEP_MS = 30_000
const HANDLER_PAUSE_MS = { first: 100, max: 2_000 }
const RECONNECT_PAUSE_MS = { first: 100, max: 2_000 }

/** Anything that failed, as the port's error. */
export function asEventLogError(error: unknown): unknown {
  if (error instanceof EventLogUnavailableError) return error
  const { code } = error as { code?: unknown }
  // A record that PostgreSQL would never take (SQLSTATE class 22): trying again is no use.
  if (typeof code === 'string' && code.startsWith('22')) return error
  const reason = error instanceof Error ? error.message : String(error)
  return new EventLogUnavailableError(`the event log is not available: ${reason}`, { cause: error })
}

/** Consumes one lane on one dedicated connection until it is stopped. */
export function createPostgresConsumer(
  { url, partitions, heartbeatMs, sessionTimeoutMs }: PostgresConsumerSettings,
  { lane, batchSize, batchesInFlight, onError }: ConsumeOptions,
  handle: BatchHandler,
): Consumer {
  // Of this consumer, not of a session: a handler may outlive the connection that its records came by, and while it runs
  // nothing of its partitions is handed out here again.
  const handling = new Set<number>()
  const failures = new Map<number, { readonly count: number; readonly until: number }>()
  const stopping = new AbortController()
  let batches = 0
  let paused = false
  let current: Session | null = null
  let drained = Promise.withResolvers<void>()
  drained.resolve()

  async function run(): Promise<void> {
    for (let pauseMs = RECONNECT_PAUSE_MS.first; !stopping.signal.aborted; ) {
      const beganAt = Date.now()
      try {
        await live()
      } catch (error) {
        onError(asEventLogError(error))
      }
      // A connection that lasted was a good one: its loss says nothing of how long the server will be away.
      if (Date.now() - beganAt > sessionTimeoutMs) pauseMs = RECONNECT_PAUSE_MS.first
      await sleep(pauseMs, undefined, { signal: stopping.signal }).catch(ignore)
      pauseMs = Math.min(pauseMs * 2, RECONNECT_PAUSE_MS.max)
    }
    await drained.promise
  }

  /** One session, from connecting to its loss (rejects) or to the end of a stop (resolves). */
  async function live(): Promise<void> {
    const session = await openSession()
    current = session
    try {
      while (!stopping.signal.aborted) {
        session.changed = Promise.withResolvers()
        await Promise.race([balance(session), session.lost.promise])
        fetchMore(session)
        const timer = new AbortController()
        const beat = sleep(heartbeatMs, undefined, { signal: timer.signal }).catch(ignore)
        await Promise.race([beat, session.changed.promise, session.lost.promise]).finally(() => timer.abort())
      }
      // Its locks are kept until what is being handled is committed, so the heart goes on beating.
      while (batches > 0) {
        const beat = sleep(heartbeatMs, undefined, { ref: false })
        await Promise.race([drained.promise, beat, session.lost.promise])
        await session.client.query('select')
      }
      await session.client.query(LEAVE)
      await session.client.query(TELL_MEMBERS, [lane])
    } finally {
      current = null
      session.ended = true
      await session.client.end().catch(ignore)
    }
  }

  async function openSession(): Promise<Session> {
    // Shorter than the server's patience: who cannot reach the server stops before his locks go to another.
    const patienceMs = Math.ceil(sessionTimeoutMs / 2)
    const client = new pg.Client(
      connectionOptions(url, {
        applicationName: `curfew ${lane} consumer`,
        statementTimeoutMs: patienceMs,
        connectTimeoutMs: patienceMs,
      }),
    )
    const session: Session = {
      client,
      owned: new Map(),
      ended: false,
      fetching: false,
      again: false,
      changed: Promise.withResolvers(),
      lost: Promise.withResolvers(),
    }
    session.lost.promise.catch(ignore)
    client.on('error', (error) => session.lost.reject(error))
    client.on('end', () => session.lost.reject(new Error('Connection terminated')))
    client.on('notification', ({ channel, payload }) => {
      if (payload !== lane) return
      if (channel === 'curfew_log_members') session.changed.resolve()
      else fetchMore(session)
    })
    try {
      await client.connect()
      // A frozen or unreachable owner is silent: the server then ends its session and frees its locks. And the table's
      // size swings so much that a plan made while it was small must not be a scan of the whole.
      await client.query(`
        set idle_session_timeout = ${sessionTimeoutMs};
        set enable_seqscan = off;
        listen curfew_log_records;
        listen curfew_log_members`)
      await client.query(JOIN, [MEMBER_LOCK[lane], randomInt(2 ** 31 - 1)])
      await client.query(TELL_MEMBERS, [lane])
    } catch (error) {
      await client.end().catch(ignore)
      throw error
    }
    return session
  }

  /** Takes free partitions up to the fair share, and gives away what is above it. */
  async function balance(session: Session): Promise<void> {
    const { rows } = await session.client.query<{ classid: number; objid: number }>({
      name: 'read_log_locks',
      text: READ_LOCKS,
      values: [MEMBER_LOCK[lane], PARTITION_LOCK[lane]],
    })
    const members = rows.filter(({ classid }) => classid === MEMBER_LOCK[lane]).length
    const share = Math.ceil(partitions / Math.max(members, 1))
    const staying = [...session.owned.values()].filter(({ leaving }) => !leaving)
    if (staying.length < share) {
      const locked = new Set(rows.filter(({ classid }) => classid === PARTITION_LOCK[lane]).map(({ objid }) => objid))
      // Those that share out the same free partitions at the same time better begin at different ones.
      const first = randomInt(partitions)
      const free = Array.from({ length: partitions }, (_, index) => (first + index) % partitions).filter(
        (partition) => !locked.has(partition),
      )
      await take(session, free.slice(0, share - staying.length))
    } else if (staying.length > share) {
      const idleFirst = staying.sort((a, b) => Number(handling.has(a.partition)) - Number(handling.has(b.partition)))
      for (const owned of idleFirst.slice(0, staying.length - share)) owned.leaving = true
    }
    await giveAway(session)
    for (const owned of session.owned.values()) raiseFloor(owned)
  }

  async function take(session: Session, wanted: readonly number[]): Promise<void> {
    if (wanted.length === 0) return
    const { rows } = await session.client.query<{ partition: number }>(TAKE, [PARTITION_LOCK[lane], wanted])
    const now = Date.now()
    for (const { partition } of rows) {
      session.owned.set(partition, {
        partition,
        floor: 0,
        committed: 0,
        committedBefore: 0,
        raisedAt: now,
        sweeping: false,
        sweptAt: now,
        leaving: false,
      })
    }
  }

  async function giveAway(session: Session): Promise<void> {
    const leaving = [...session.owned.values()].filter((owned) => owned.leaving && !handling.has(owned.partition))
    if (leaving.length === 0) return
    // Forgotten before it is unlocked: a fetch under way may still bring records of it, which then are dropped.
    for (const { partition } of leaving) session.owned.delete(partition)
    await session.client.query(GIVE, [PARTITION_LOCK[lane], leaving.map(({ partition }) => partition)])
    await session.client.query(TELL_MEMBERS, [lane])
  }

  /** Hands out batches while there are records, free partitions and room. Never two fetches at once. */
  function fetchMore(session: Session): void {
    session.again = true
    if (session.fetching) return
    session.fetching = true
    void (async () => {
      try {
        while (session.again && mayHandOut(session)) {
          session.again = false
          const available = findAvailable(session)
          if (available.length === 0) break
          const fetched = await fetch(session, available)
          if (!mayHandOut(session)) break
          const rows = fetched.filter(({ partition }) => session.owned.get(partition)?.leaving === false)
          if (rows.length > 0) {
            session.again = true
            void handOut(session, rows)
          }
        }
      } catch (error) {
        session.lost.reject(error)
      } finally {
        session.fetching = false
      }
    })()
  }

  function mayHandOut(session: Session): boolean {
    return !session.ended && !paused && !stopping.signal.aborted && batches < batchesInFlight
  }

  function findAvailable(session: Session): readonly Owned[] {
    const now = Date.now()
    return [...session.owned.values()].filter(
      ({ partition, leaving }) =>
        !leaving && !handling.has(partition) && (failures.get(partition)?.until ?? 0) <= now,
    )
  }

  async function fetch(session: Session, available: readonly Owned[]): Promise<Row[]> {
    const { rows } = await session.client.query<Row>({
      name: 'fetch_log_records',
      text: FETCH,
      values: [
        lane,
        available.map(({ partition }) => partition),
        available.map(({ floor, sweeping }) => (sweeping ? 0 : floor)),
        batchSize,
      ],
    })
    for (const owned of available) owned.sweeping = false
    return rows
  }

  async function handOut(session: Session, rows: readonly Row[]): Promise<void> {
    const touched = [...new Set(rows.map(({ partition }) => partition))]
    for (const partition of touched) handling.add(partition)
    if (batches === 0) drained = Promise.withResolvers()
    batches++
    try {
      const records = rows.map((row) => toRecord(row, lane))
      const refused = await handle(records)
      const reasons = new Map(refused.map(({ record, reason }) => [record.position, reason]))
      await commit(session, touched, rows, reasons)
      for (const partition of touched) failures.delete(partition)
      for (const { partition, position } of rows) {
        const owned = session.owned.get(partition)
        if (owned !== undefined) owned.committed = Math.max(owned.committed, position)
      }
    } catch (error) {
      onError(error)
      backOff(touched)
    } finally {
      for (const partition of touched) handling.delete(partition)
      batches--
      if (batches === 0) drained.resolve()
      if (current !== null) {
        giveAway(current).catch(current.lost.reject)
        fetchMore(current)
      }
    }
  }

  async function commit(
    session: Session,
    touched: readonly number[],
    rows: readonly Row[],
    reasons: ReadonlyMap<string, string>,
  ): Promise<void> {
    if (session.ended) throw new EventLogUnavailableError('the connection was lost before a batch could be committed')
    const refused = rows.flatMap((row) => {
      const reason = reasons.get(positionOf(row))
      return reason === undefined ? [] : [{ position: row.position, reason }]
    })
    try {
      await session.client.query({
        name: 'commit_log_records',
        text: COMMIT,
        values: [
          lane,
          touched,
          rows.map(({ position }) => position),
          refused.map(({ position }) => position),
          refused.map(({ reason }) => reason),
        ],
      })
    } catch (error) {
      throw asEventLogError(error)
    }
  }

  /** After a failure the partitions rest; then their records are fetched again, in order. */
  function backOff(touched: readonly number[]): void {
    let longestMs = 0
    for (const partition of touched) {
      const count = (failures.get(partition)?.count ?? 0) + 1
      const waitMs = Math.min(HANDLER_PAUSE_MS.first * 2 ** (count - 1), HANDLER_PAUSE_MS.max)
      failures.set(partition, { count, until: Date.now() + waitMs })
      longestMs = Math.max(longestMs, waitMs)
    }
    setTimeout(() => {
      if (current !== null) fetchMore(current)
    }, longestMs + 1).unref()
  }

  const ran = run()
  return {
    pause() {
      paused = true
    },
    resume() {
      paused = false
      if (current !== null) fetchMore(current)
    },
    stop() {
      stopping.abort()
      current?.changed.resolve()
      return ran
    },
  }
}

/**
 * Every record consumed leaves a dead index entry until vacuum comes, at the low end where fetches start; a transaction
 * that someone holds open keeps them all. So fetches start behind what was committed some seconds ago. What appears below
 * that (an append that took so long to commit) is found by a sweep from the beginning.
 */
function raiseFloor(owned: Owned): void {
  const now = Date.now()
  if (now - owned.sweptAt >= SWEEP_MS) {
    owned.sweeping = true
    owned.sweptAt = now
  }
  if (now - owned.raisedAt >= FLOOR_MS) {
    owned.floor = owned.committedBefore
    owned.committedBefore = owned.committed
    owned.raisedAt = now
  }
}

function toRecord(row: Row, lane: Lane): ConsumedRecord {
  return { lane, key: row.key, value: row.value, headers: row.headers, position: positionOf(row) }
}

function positionOf({ partition, position }: Row): string {
  return `${partition}/${position}`
}

function ignore(): undefined {
  return undefined
}
