import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { type ConsumedRecord, type EventLog, EventLogUnavailableError, type LogRecord } from '@curfew/domain'
import pg from 'pg'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../../../../test/support/database.ts'
import { openGate } from '../../../../test/support/gate.ts'
import { createDatabase } from '../postgres/database.ts'
import { createPostgresEventLog, type PostgresEventLogOptions, partitionOf } from './event-log.ts'

// Goal: the event log survives faults specific to PostgreSQL: locks of dead and frozen owners, late commits, silent networks.
// The tests for every event log are in test/contract/event-log.contract.ts.

const TIMES = { timeoutMs: 1_000, heartbeatMs: 200, sessionTimeoutMs: 2_000 }
const PATIENTLY = { timeout: 15_000, interval: 10 }

let own: TestDatabase
let closers: (() => unknown)[]
beforeEach(async () => {
  closers = []
  own = await createTestDatabase()
})
afterEach(async () => {
  for (const close of closers.reverse()) await close()
  await own.drop()
})

function openLog(options: Partial<PostgresEventLogOptions> = {}): EventLog {
  const url = options.url ?? own.url
  const db = createDatabase(url, { poolMax: 3, connectTimeoutMs: 500 })
  const log = createPostgresEventLog({ db, url, ...TIMES, ...options })
  closers.push(async () => {
    await log.close()
    await db.end()
  })
  return log
}

function consume(log: EventLog, handle: (batch: readonly ConsumedRecord[]) => unknown = () => undefined) {
  const values: string[] = []
  const errors: unknown[] = []
  const consumer = log.consume(
    { lane: 'interactive', batchSize: 100, batchesInFlight: 2, onError: (error) => errors.push(error) },
    async (batch) => {
      await handle(batch)
      values.push(...batch.map(({ value }) => Buffer.from(value).toString()))
      return []
    },
  )
  closers.push(() => consumer.stop())
  return { consumer, values, errors }
}

function record(key: string, value = key): LogRecord {
  return { lane: 'interactive', key, value: Buffer.from(value), headers: {} }
}

/** The number of partitions that each living consumer owns, in ascending order. */
async function readShares(): Promise<number[]> {
  const { rows } = await own.db.query<{ owned: number }>(
    `select count(*) as owned from pg_locks join pg_database on pg_database.oid = database
      where datname = current_database() and locktype = 'advisory' and classid::bigint = 1129664001
      group by pid order by 1`,
  )
  return rows.map(({ owned }) => owned)
}

async function readDepth(): Promise<number> {
  const { rows } = await own.db.query<{ depth: number }>('select count(*) as depth from log_records')
  return rows[0]?.depth ?? -1
}

test('a key has the same partition in every release', () => {
  const keys = ['', 'a', '["https://idp.example","248289761001"]', '["https://idp.example",null,"ü"]']
  expect(keys.map((key) => partitionOf(key, 8))).toEqual([1, 7, 7, 3])
})

test('subjects of one issuer spread evenly over all partitions', () => {
  const counts = Array.from({ length: 8 }, () => 0)
  for (let n = 0; n < 8_000; n++) {
    const partition = partitionOf(JSON.stringify(['https://idp.example', String(n)]), 8)
    counts[partition] = (counts[partition] ?? 0) + 1
  }
  expect(Math.min(...counts)).toBeGreaterThan(850)
  expect(Math.max(...counts)).toBeLessThan(1_150)
})

test('a record that commits late, below consumed records, is not skipped', async () => {
  const { values } = consume(openLog())
  const late = new pg.Client(own.url)
  await late.connect()
  closers.push(() => late.end())
  await late.query('begin')
  const partition = partitionOf('k', 8)
  await late.query(
    `insert into log_records (lane, partition, key, value, headers) values ('interactive', $1, 'k', 'late', '{}')`,
    [partition],
  )
  await openLog().append([record('k', 'early')])
  await expect.poll(() => values, PATIENTLY).toEqual(['early'])
  await expect.poll(readDepth, PATIENTLY).toBe(0)
  await late.query('commit')
  await expect.poll(() => values, PATIENTLY).toEqual(['early', 'late'])
})

test('consumers share the partitions evenly as they join and leave', async () => {
  const first = consume(openLog())
  await expect.poll(readShares, PATIENTLY).toEqual([8])
  const second = consume(openLog())
  await expect.poll(readShares, PATIENTLY).toEqual([4, 4])
  consume(openLog())
  await expect.poll(readShares, PATIENTLY).toEqual([2, 3, 3])
  await first.consumer.stop()
  await expect.poll(readShares, PATIENTLY).toEqual([4, 4])
  await second.consumer.stop()
  await expect.poll(readShares, PATIENTLY).toEqual([8])
})

test('a frozen process loses its partitions to another, which handles its records again', async () => {
  const frozen = await consumeElsewhere()
  await openLog().append([record('a'), record('b')])
  await once(frozen.stdout ?? frozen, 'data')
  frozen.kill('SIGSTOP')
  const { values } = consume(openLog())
  await expect.poll(() => [...values].sort(), PATIENTLY).toEqual(['a', 'b'])
  await expect.poll(readShares, PATIENTLY).toEqual([8])
})

test('in a silent network an append rejects in time, and a consumer recovers with the network', async () => {
  const gate = await openGate(own.url)
  closers.push(() => gate.close())
  const log = openLog({ url: gate.url })
  const { values, errors } = consume(log)
  await log.append([record('a', 'before')])
  await expect.poll(() => values, PATIENTLY).toEqual(['before'])
  gate.swallow()
  const since = Date.now()
  await expect(log.append([record('a', 'during')])).rejects.toBeInstanceOf(EventLogUnavailableError)
  await expect(log.check()).rejects.toBeInstanceOf(EventLogUnavailableError)
  expect(Date.now() - since).toBeLessThan(4_000)
  // Waits until the server has freed the consumer's partitions.
  await expect.poll(() => errors.length, PATIENTLY).toBeGreaterThan(0)
  await expect.poll(readShares, PATIENTLY).toEqual([])
  await gate.open()
  await expect
    .poll(() => log.append([record('a', 'after')]).then(() => 'done', String), PATIENTLY)
    .toBe('done')
  await expect.poll(() => values, PATIENTLY).toContain('after')
})

test('connections ended by an administrator are opened again, and no record is lost', async () => {
  const log = openLog()
  const { values, errors } = consume(log)
  const sent: string[] = []
  for (let round = 0; round < 3; round++) {
    await own.db.query(
      `select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid()`,
    )
    for (let n = 0; n < 20; n++) {
      sent.push(`${round}.${n}`)
      await log.append([record(`k${n}`, `${round}.${n}`)])
    }
    await expect.poll(() => sent.filter((value) => !values.includes(value)), PATIENTLY).toEqual([])
  }
  expect(errors.length).toBeGreaterThan(0)
})

test('a record that PostgreSQL refuses fails its own append only', async () => {
  const log = openLog()
  const { values } = consume(log)
  const appends = [record('first'), record('before'), record('nul\0key'), record('after')].map((one) =>
    log.append([one]),
  )
  const results = await Promise.allSettled(appends)
  expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'rejected', 'fulfilled'])
  await expect.poll(() => values.sort(), PATIENTLY).toEqual(['after', 'before', 'first'])
})

test('while a handler outlives its connection, its consumer does not handle the same key again', async () => {
  const log = openLog()
  const gate = Promise.withResolvers<void>()
  closers.push(() => gate.resolve())
  const keys: string[] = []
  const { values } = consume(log, async (batch) => {
    keys.push(...batch.map(({ key }) => key))
    if (batch.some(({ key }) => key === 'slow')) await gate.promise
  })
  await log.append([record('slow')])
  await expect.poll(() => keys, PATIENTLY).toEqual(['slow'])
  await own.db.query(
    `select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and pid <> pg_backend_pid()`,
  )
  const other = Array.from({ length: 20 }, (_, n) => `k${n}`).find(
    (key) => partitionOf(key, 8) !== partitionOf('slow', 8),
  )
  await expect.poll(readShares, PATIENTLY).toEqual([8])
  await log.append([record(other ?? '')])
  await expect.poll(() => values, PATIENTLY).toEqual([other])
  expect(keys).toEqual(['slow', other])
  gate.resolve()
  await expect.poll(() => values.filter((value) => value === 'slow'), PATIENTLY).toHaveLength(2)
  await expect.poll(readDepth, PATIENTLY).toBe(0)
})

async function consumeElsewhere(): Promise<ChildProcess> {
  const code = `
    const { createDatabase } = await import(${JSON.stringify(import.meta.resolve('../postgres/database.ts'))})
    const { createPostgresEventLog } = await import(${JSON.stringify(import.meta.resolve('./event-log.ts'))})
    const url = ${JSON.stringify(own.url)}
    const log = createPostgresEventLog({ db: createDatabase(url), url, ...${JSON.stringify(TIMES)} })
    log.consume({ lane: 'interactive', batchSize: 20, batchesInFlight: 1, onError() {} }, () => {
      console.log('handed')
      return new Promise(() => undefined)
    })`
  const child = spawn(process.execPath, ['--input-type=module', '-e', code], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  closers.push(() => child.kill('SIGKILL'))
  await expect.poll(readShares, PATIENTLY).toEqual([8])
  return child
}
