import { type EventLog, EventLogUnavailableError, type LogRecord } from '@curfew/domain'
import { type Database, isUnavailable } from '../postgres/database.ts'
import { createPostgresConsumer } from './consumer.ts'
import { asEventLogError, isBadData } from './session.ts'

export interface PostgresEventLogOptions {
  /** Runs the appends. Its owner ends it after closing the log. */
  readonly db: Database
  /**
   * Every consumer opens a connection of its own to this URL. It must lead to PostgreSQL itself or to a pooler in session mode,
   * because the connection holds locks and listens.
   */
  readonly url: string
  /**
   * Most consumers of a lane that can work at once. All processes must agree. Change it only while the log is empty. Default 8.
   */
  readonly partitions?: number
  /** Longest wait for an append or a check, in milliseconds. Default 5,000. */
  readonly timeoutMs?: number
  /** Interval of a consumer's heartbeat and of its search for free partitions, in milliseconds. Default 1,000. */
  readonly heartbeatMs?: number
  /** A consumer that is silent for this time loses its partitions, in milliseconds. Default 10,000. */
  readonly sessionTimeoutMs?: number
}

// One statement is one transaction: it inserts the records and notifies each lane when it commits. The identity column grows in
// the order of the arrays.
const APPEND = `
  with appended as (
    insert into log_records (lane, partition, key, value, headers)
    select lane, partition, key, value, headers
      from unnest($1::text[], $2::smallint[], $3::text[], $4::bytea[], $5::json[])
           with ordinality as given (lane, partition, key, value, headers, number)
     order by number
    returning lane
  )
  select pg_notify('curfew_log_records', lane) from (select distinct lane from appended) as lanes`
const CHECK = 'select from log_records limit 0'

const RECORDS_MAX = 1_000
const BYTES_MAX = 8 * 1_024 * 1_024
const RETRY_PAUSE_MS = 100
export const PARTITIONS = 8

/** One call of `append` that waits in the queue. */
interface Waiting {
  readonly records: readonly LogRecord[]
  readonly deadline: number
  resolve(): void
  reject(error: unknown): void
}

/**
 * Creates the event log in PostgreSQL: a table in which a record lives from its append to its commit. Only one consumer at a time
 * owns a partition. It holds an advisory lock, which PostgreSQL frees when the consumer's connection ends.
 */
export function createPostgresEventLog({
  db,
  url,
  partitions = PARTITIONS,
  timeoutMs = 5_000,
  heartbeatMs = 1_000,
  sessionTimeoutMs = 10_000,
}: PostgresEventLogOptions): EventLog {
  const waiting: Waiting[] = []
  let sending: Promise<void> | null = null
  let closed = false

  /**
   * Sends the queued calls, one statement after the other. Calls that arrive during a statement share the next one. So the
   * records of one process are in the order of its calls, and a busy process needs few commits.
   */
  async function send(): Promise<void> {
    for (let group = takeGroup(waiting); group.length > 0; group = takeGroup(waiting)) {
      try {
        await insert(group)
        for (const { resolve } of group) resolve()
      } catch (error) {
        if (group.length === 1 || !isBadData(error)) {
          for (const { reject } of group) reject(asEventLogError(error))
        } else {
          await sendApart(group)
        }
      }
    }
  }

  /** Sends every call in a statement of its own, so that a record that PostgreSQL refuses fails only its own call. */
  async function sendApart(group: readonly Waiting[]): Promise<void> {
    for (const one of group)
      await insert([one]).then(one.resolve, (error) => one.reject(asEventLogError(error)))
  }

  async function insert(group: readonly Waiting[]): Promise<void> {
    const records = group.flatMap((one) => one.records)
    const deadline = Math.max(...group.map((one) => one.deadline))
    const values = [
      records.map(({ lane }) => lane),
      records.map(({ key }) => partitionOf(key, partitions)),
      records.map(({ key }) => key),
      records.map(({ value }) => Buffer.from(value.buffer, value.byteOffset, value.byteLength)),
      records.map(({ headers }) => JSON.stringify(headers)),
    ]
    for (;;) {
      try {
        await db.query({
          name: 'append_log_records',
          text: APPEND,
          values,
          timeoutMs: Math.max(deadline - Date.now(), 1),
        })
        return
      } catch (error) {
        // After a lost connection it is unknown whether PostgreSQL committed. A duplicate is allowed, a loss is not.
        if (!isUnavailable(error) || Date.now() + RETRY_PAUSE_MS >= deadline) throw error
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_PAUSE_MS))
    }
  }

  return {
    async append(records) {
      if (closed) throw new EventLogUnavailableError('the event log is closed')
      if (records.length === 0) return
      const { promise, resolve, reject } = Promise.withResolvers<void>()
      const one: Waiting = { records, deadline: Date.now() + timeoutMs, resolve, reject }
      const timer = setTimeout(() => {
        const place = waiting.indexOf(one)
        if (place >= 0) waiting.splice(place, 1)
        reject(new EventLogUnavailableError(`PostgreSQL did not confirm an append within ${timeoutMs} ms`))
      }, timeoutMs)
      waiting.push(one)
      sending ??= send().finally(() => {
        sending = null
      })
      try {
        await promise
      } finally {
        clearTimeout(timer)
      }
    },
    consume: (options, handle) =>
      createPostgresConsumer({ url, partitions, heartbeatMs, sessionTimeoutMs }, options, handle),
    async check() {
      try {
        await db.query({ name: 'check_log', text: CHECK, timeoutMs })
      } catch (error) {
        throw asEventLogError(error)
      }
    },
    async close() {
      closed = true
      await sending
    },
  }
}

function takeGroup(waiting: Waiting[]): Waiting[] {
  let records = 0
  let bytes = 0
  let count = 0
  for (const one of waiting) {
    records += one.records.length
    bytes += one.records.reduce((sum, { value }) => sum + value.byteLength, 0)
    if (count > 0 && (records > RECORDS_MAX || bytes > BYTES_MAX)) break
    count++
  }
  return waiting.splice(0, count)
}

/** The partition of a key: FNV-1a over its UTF-8, then mixed, because the low bits of FNV-1a are poor. Never change it. */
export function partitionOf(key: string, partitions: number): number {
  let hash = 0x811c9dc5
  for (const byte of Buffer.from(key)) hash = Math.imul(hash ^ byte, 0x01000193)
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash ^= hash >>> 13
  return (hash >>> 0) % partitions
}
