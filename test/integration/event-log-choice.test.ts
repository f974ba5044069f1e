import { EventLogDegradedError, WrongEventLogError } from '@curfew/domain'
import {
  chooseEventLog,
  createDatabase,
  guardEventLog,
  readEventLogChoice,
  readOwnLedger,
} from '@curfew/ledger'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { openGate } from '../support/gate.ts'
import { numberedRecord } from '../support/kafka.ts'
import { createMemoryLog } from '../support/memory-event-log.ts'

// Goal: a service that uses another event log than its ledger names accepts nothing, because no worker would read it.
// Method: a real ledger, and event logs in memory under the names of real ones.

let database: TestDatabase
beforeEach(async () => {
  database = await createTestDatabase()
})
afterEach(() => database.drop())

const KAFKA = 'Kafka cluster one, topics logout.*'
const POSTGRES = 'PostgreSQL'
const AGAIN_MS = 20
const patiently = { timeout: 20_000, interval: 10 }

/** Starts a service that uses the event log of this name. */
function serve(
  name: string,
  { db = database.db, ...options }: Partial<Parameters<typeof guardEventLog>[1]> = {},
) {
  const memory = createMemoryLog()
  const wrongs: string[] = []
  const changes: string[] = []
  const log = guardEventLog(memory.open(), {
    ...{ db, user: `ingest over ${name}`, againMs: AGAIN_MS },
    identify: async () => name,
    onWrong: ({ message }) => void wrongs.push(message),
    onChanged: (to) => void changes.push(to),
    ...options,
  })
  return { log, memory, wrongs, changes, append: () => log.append([numberedRecord('a', 1)]) }
}

/** Waits until an idle service would ask the ledger again before it accepts a logout. */
async function idle(): Promise<void> {
  const sinceMs = performance.now()
  await expect.poll(() => performance.now() - sinceMs, patiently).toBeGreaterThan(3 * AGAIN_MS)
}

test('the first service chooses the event log, and a service with another log accepts nothing', async () => {
  const first = serve(KAFKA)
  await first.append()
  const second = serve(POSTGRES)
  await expect(second.append()).rejects.toThrow(WrongEventLogError)
  await expect(second.log.checkChoice()).rejects.toThrow(
    'name the event log "PostgreSQL", and this ledger has "Kafka cluster one, topics logout.*"',
  )
  expect(second.memory.depth('interactive')).toBe(0)
  expect(second.wrongs).toHaveLength(1)
  await first.log.checkChoice()
  await serve(KAFKA).append()
  expect(await readEventLogChoice(database.db)).toEqual({
    chosen: KAFKA,
    strays: [{ name: POSTGRES, user: `ingest over ${POSTGRES}` }],
  })
})

test('only one of two services that choose at the same time accepts', async () => {
  for (let round = 0; round < 20; round++) {
    await database.db.query('delete from event_logs')
    const both = [serve(KAFKA), serve(POSTGRES)]
    const results = await Promise.allSettled(both.map(({ append }) => append()))
    expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
  }
})

test('a consumer of another event log stays idle until that log is chosen', async () => {
  await serve(KAFKA).append()
  const able: (() => boolean)[] = []
  const memory = createMemoryLog().open()
  const log = guardEventLog(
    {
      ...memory,
      consume: (options, handle) => {
        able.push(options.able ?? (() => true))
        return memory.consume(options, handle)
      },
    },
    {
      ...{ db: database.db, user: 'delivery', againMs: AGAIN_MS },
      identify: async () => POSTGRES,
      onWrong: () => undefined,
      onChanged: () => undefined,
    },
  )
  let working = true
  const options = { lane: 'interactive', batchSize: 1, batchesInFlight: 1, onError: () => undefined } as const
  const consumer = log.consume({ ...options, able: () => working }, async () => [])
  const isAble = () => able[0]?.() ?? false
  await expect(log.checkChoice()).rejects.toThrow(WrongEventLogError)
  expect(isAble()).toBe(false)
  await chooseEventLog(database.db, { user: 'operator', name: POSTGRES, takesTopics: true }, async () => true)
  await expect.poll(isAble, patiently).toBe(true)
  working = false
  expect(isAble()).toBe(false)
  await consumer.stop()
})

test('running services notice a change of the event log, and a change needs consent', async () => {
  const old = serve(KAFKA)
  await old.append()
  const asked: (string | null)[] = []
  const change = (agreed: boolean) =>
    chooseEventLog(database.db, { user: 'operator', name: POSTGRES, takesTopics: true }, async (before) => {
      asked.push(before)
      return agreed
    })
  expect(await change(false)).toBe(false)
  await old.log.checkChoice()
  expect(await change(true)).toBe(true)
  expect(asked).toEqual([KAFKA, KAFKA])
  await expect.poll(() => old.log.checkChoice().then(() => 'well', String), patiently).toContain(POSTGRES)
  await serve(POSTGRES).append()
})

test('the ledger keeps its id across changes of the event log, and only an operator takes topics over', async () => {
  expect(await readOwnLedger(database.db, false)).toBeNull()
  await serve(KAFKA).append()
  const first = await readOwnLedger(database.db, false)
  expect(first).toEqual({
    ...{ id: expect.stringMatching(/^[0-9a-f-]{36}$/), takenMs: null },
    database: expect.stringMatching(/^\d+\.\d+$/),
  })
  await serve(POSTGRES, { alone: true }).append()
  expect(await readOwnLedger(database.db, true)).toEqual({ ...first, database: null })
  await chooseEventLog(database.db, { user: 'operator', name: POSTGRES, takesTopics: true }, async () => true)
  expect(await readOwnLedger(database.db, false)).toEqual({ ...first, takenMs: expect.any(Number) })
})

test('a service accepts logouts while the ledger is unavailable', async () => {
  const unavailable = createDatabase('postgres://unused@127.0.0.1:1/none')
  const ingest = serve(KAFKA, { db: unavailable })
  await ingest.append()
  expect(ingest.memory.depth('interactive')).toBe(1)
  await ingest.log.checkChoice()
  await unavailable.end()
})

test('a service stays ready and accepts logouts while the ledger hangs', async () => {
  const gate = await openGate(database.url)
  const db = createDatabase(gate.url)
  const before = serve(KAFKA, { db })
  await before.append()
  gate.swallow()
  const started = serve(KAFKA, { db })
  const askedMs = performance.now()
  await Promise.all([before, started].flatMap(({ log, append }) => [log.checkChoice(), append()]))
  // A readiness probe waits for two seconds.
  expect(performance.now() - askedMs).toBeLessThan(2_000)
  await gate.close()
  await db.end()
})

test('an idle service notices a change before it accepts its next logout', async () => {
  const ingest = serve(KAFKA)
  await ingest.append()
  await chooseEventLog(database.db, { user: 'operator', name: POSTGRES, takesTopics: true }, async () => true)
  await idle()
  await expect(ingest.append()).rejects.toThrow(WrongEventLogError)
  expect(ingest.memory.depth('interactive')).toBe(1)
})

test('a running service notices that another event log replaced its own, and keeps the old name while the log does not answer', async () => {
  let answer = () => Promise.resolve(KAFKA)
  const ingest = serve(KAFKA, { identify: () => answer() })
  await ingest.append()
  answer = () => Promise.reject(new Error('no broker answers'))
  await idle()
  await ingest.append()
  answer = () => Promise.resolve('Kafka cluster two, topics logout.*')
  await expect
    .poll(() => ingest.log.checkChoice().then(() => 'well', String), patiently)
    .toContain('cluster two')
  await expect(ingest.append()).rejects.toThrow(WrongEventLogError)
})

test('a service reports how many records it appended since it last confirmed its event log', async () => {
  const gate = await openGate(database.url)
  await gate.shut()
  const db = createDatabase(gate.url)
  const started = serve(POSTGRES, { db })
  await started.append()
  await serve(KAFKA).append()
  await gate.open()
  await expect.poll(() => started.log.checkChoice().then(() => 'well', String), patiently).not.toBe('well')
  expect(started.wrongs).toEqual([expect.stringContaining('up to 1 records were appended to PostgreSQL')])
  await db.end()
  await gate.close()

  const ran = serve(KAFKA)
  await ran.append()
  await idle()
  await ran.log.checkChoice()
  await chooseEventLog(database.db, { user: 'operator', name: POSTGRES, takesTopics: true }, async () => true)
  await expect.poll(() => ran.log.checkChoice().then(() => 'well', String), patiently).not.toBe('well')
  expect(ran.wrongs).toEqual([expect.not.stringContaining('records were appended')])
})

test('a service accepts logouts while the ledger refuses to name the event log, and readiness reports it', async () => {
  const url = new URL(database.url)
  const role = `refused_${url.pathname.slice(1)}`
  await database.db.query(`create role ${role} login password 'refused'`)
  url.username = role
  url.password = 'refused'
  const db = createDatabase(url.href)
  const ingest = serve(KAFKA, { db })
  await ingest.append()
  await expect(ingest.log.checkChoice()).rejects.toThrow(EventLogDegradedError)
  await expect(ingest.log.checkChoice()).rejects.toThrow('permission denied for table event_logs')
  await database.db.query(`grant select, insert, update on event_logs to ${role}`)
  await expect.poll(() => ingest.log.checkChoice().then(() => 'well', String), patiently).toBe('well')
  await db.end()
  await database.db.query(`drop owned by ${role}`)
  await database.db.query(`drop role ${role}`)
})

test('a service accepts logouts while the ledger is not migrated', async () => {
  await database.db.query('drop table event_logs')
  await serve(KAFKA).append()
})

test('a service that is alone on its ledger changes the event log by its settings once the previous log is read', async () => {
  await serve(POSTGRES).append()
  await database.db.query(
    `insert into log_records (lane, partition, key, value, headers) values ('bulk', 0, 'a', '', '{}')`,
  )
  await expect(serve(KAFKA, { alone: true }).append()).rejects.toThrow('Start without KAFKA_BROKERS')
  await database.db.query('delete from log_records')
  const alone = serve(KAFKA, { alone: true })
  await alone.append()
  expect(alone.changes).toEqual([KAFKA])
  await expect(serve(POSTGRES).append()).rejects.toThrow(WrongEventLogError)
})
