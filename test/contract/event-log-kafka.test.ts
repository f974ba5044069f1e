import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createKafkaEventLog, DEFAULT_TOPICS, topicName } from '@curfew/broker'
import {
  type ConsumedRecord,
  type EventLog,
  EventLogUnavailableError,
  LedgerUnavailableError,
  type LogRecord,
  type Quarantine,
} from '@curfew/domain'
import { createQuarantine } from '@curfew/ledger'
import kafkajs from 'kafkajs'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { openKafka, type RunningKafka } from '../../deploy/kafka/broker.ts'
import { createTestDatabase } from '../support/database.ts'
import {
  describeWithKafka,
  missingKafka,
  numberedRecord as record,
  smallTopics,
  uniquePrefix,
} from '../support/kafka.ts'

// Goal: the EventLog port holds in situations that only Kafka has: groups, rebalances, killed processes, a killed broker.
// Method: a real broker; processes and brokers are killed with SIGKILL; short sessions keep the tests fast.

const closers: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

interface Options {
  readonly brokers: readonly string[]
  readonly prefix?: string
  readonly partitions?: number
  readonly sessionTimeoutMs?: number
  readonly appendTimeoutMs?: number
  /** Default: a quarantine that stores nothing. */
  readonly quarantine?: Quarantine
  readonly log?: NonNullable<Parameters<typeof createKafkaEventLog>[0]['log']>
}

function openLog({ brokers, prefix = uniquePrefix(), partitions = 4, ...rest }: Options): EventLog {
  const log = createKafkaEventLog({
    brokers,
    clientId: 'test',
    groupId: `${prefix}delivery`,
    topics: smallTopics(prefix, { partitions }),
    sessionTimeoutMs: 3_000,
    quarantine: async () => undefined,
    ...rest,
  })
  closers.push(() => log.close())
  return log
}

type Handler = (batch: readonly ConsumedRecord[]) => Promise<void> | void

function consume(log: EventLog, handle: Handler, batchSize = 50, batchesInFlight = 4) {
  const errors: unknown[] = []
  const consumer = log.consume(
    { lane: 'interactive', batchSize, batchesInFlight, onError: (error) => errors.push(error) },
    async (batch) => {
      await handle(batch)
      return []
    },
  )
  closers.push(() => consumer.stop())
  return { ...consumer, errors }
}

const idsOf = (batch: readonly ConsumedRecord[]) => batch.map(({ headers }) => headers.ce_id ?? '?')
const ids = (records: readonly LogRecord[]) => records.map(({ headers }) => headers.ce_id ?? '?')
const numbered = (count: number, keys: number, from = 0) =>
  Array.from({ length: count }, (_, index) => record(`k${index % keys}`, from + index))
const patiently = { timeout: 25_000, interval: 10 }

/** Throws unless the first occurrences of every key's records are in the order of their numbers. */
function expectOrder(seen: readonly ConsumedRecord[]): void {
  const last = new Map<string, number>()
  const known = new Set<string>()
  for (const { key, value, headers } of seen) {
    const id = headers.ce_id ?? '?'
    if (known.has(id)) continue
    known.add(id)
    const number = Number(value.toString())
    expect(number, `${id} came after ${last.get(key)}`).toBeGreaterThan(last.get(key) ?? -1)
    last.set(key, number)
  }
}

await describeWithKafka('the Kafka event log', (brokers) => {
  it('hands out every record once, in order within its key, with unchanged key, value and headers', async () => {
    const log = openLog({ brokers })
    const seen: ConsumedRecord[] = []
    consume(log, (batch) => void seen.push(...batch))
    const records = numbered(2_000, 37)
    // Concurrent appends: some in one tick, some while a send is in flight.
    const appends: Promise<void>[] = []
    for (let from = 0; from < records.length; from += 10) {
      appends.push(log.append(records.slice(from, from + 10)))
      if (from % 200 === 0) await new Promise((resolve) => setImmediate(resolve))
    }
    await Promise.all(appends)
    await vi.waitFor(() => expect(seen).toHaveLength(records.length), patiently)
    expectOrder(seen)
    const found = seen.find(({ headers }) => headers.ce_id === 'k3-40')
    expect(found).toMatchObject({ lane: 'interactive', key: 'k3', headers: { ce_id: 'k3-40' } })
    expect(found?.value.toString()).toBe('40')
    expect(found?.position).toMatch(/logout\.events\/\d+@\d+$/)
  })

  it('never exceeds the batch size or the batches in flight, and never has one key in two batches', async () => {
    const log = openLog({ brokers })
    await log.append(numbered(500, 20))
    let running = 0
    let most = 0
    let count = 0
    const held = new Set<string>()
    consume(
      log,
      async (batch) => {
        expect(batch.length).toBeLessThanOrEqual(7)
        const keys = new Set(batch.map(({ key }) => key))
        for (const key of keys) expect(held.has(key)).toBe(false)
        for (const key of keys) held.add(key)
        most = Math.max(most, ++running)
        await new Promise((resolve) => setTimeout(resolve, 2))
        running--
        for (const key of keys) held.delete(key)
        count += batch.length
      },
      7,
      2,
    )
    await vi.waitFor(() => expect(count).toBe(500), patiently)
    expect(most).toBe(2)
  })

  it('hands out a rejected batch again, with the same records in the same order, while other partitions continue', async () => {
    const log = openLog({ brokers })
    const seen: ConsumedRecord[] = []
    const tries: string[][] = []
    const { errors } = consume(log, (batch) => {
      if (batch.some(({ key }) => key === 'poison') && tries.push(idsOf(batch)) <= 3)
        throw new Error('not yet')
      seen.push(...batch)
    })
    await log.append([record('poison', 0), record('poison', 1)])
    await vi.waitFor(() => expect(tries.length).toBeGreaterThan(0), patiently)
    const others = numbered(50, 50)
    await log.append([...others, record('poison', 2)])
    await vi.waitFor(() => expect(seen).toHaveLength(53), patiently)
    expect(tries.slice(0, 3)).toEqual([tries[0], tries[0], tries[0]])
    expect(errors.map(String)).toEqual(Array(3).fill('Error: not yet'))
    const firstPoison = seen.findIndex(({ key }) => key === 'poison')
    expect(firstPoison).toBeGreaterThan(0)
    expectOrder(seen)
  })

  it('continues from the last committed record after a stop', async () => {
    const prefix = uniquePrefix()
    const log = openLog({ brokers, prefix })
    await log.append(numbered(100, 10))
    const before: string[] = []
    const first = consume(log, (batch) => void before.push(...idsOf(batch)), 10)
    await vi.waitFor(() => expect(before.length).toBeGreaterThanOrEqual(30), patiently)
    await first.stop()
    const after: string[] = []
    consume(openLog({ brokers, prefix }), (batch) => void after.push(...idsOf(batch)))
    await vi.waitFor(() => expect(before.length + after.length).toBeGreaterThanOrEqual(100), patiently)
    expect([...before, ...after].sort()).toEqual(ids(numbered(100, 10)).sort())
  })

  it('hands out nothing while paused, keeps its partitions, and reads only a limited number of records ahead', async () => {
    const log = openLog({ brokers, sessionTimeoutMs: 800 })
    const seen: string[] = []
    const consumer = consume(log, (batch) => void seen.push(...idsOf(batch)), 10)
    await log.append(numbered(10, 10))
    await vi.waitFor(() => expect(seen).toHaveLength(10), patiently)
    consumer.pause()
    await log.append(numbered(2_000, 10, 10))
    // Longer than a session: without heartbeats the group would have revoked the partitions.
    await new Promise((resolve) => setTimeout(resolve, 1_700))
    expect(seen).toHaveLength(10)
    consumer.resume()
    await vi.waitFor(() => expect(seen).toHaveLength(2_010), patiently)
    expect(new Set(seen).size).toBe(2_010)
    expect(consumer.errors).toEqual([])
  })

  it('keeps its membership while a handler takes longer than a session', async () => {
    const prefix = uniquePrefix()
    const log = openLog({ brokers, prefix, sessionTimeoutMs: 800 })
    const seen: string[] = []
    const slow = Promise.withResolvers<void>()
    const consumer = consume(log, async (batch) => {
      seen.push(...idsOf(batch))
      if (batch.some(({ key }) => key === 'slow')) await slow.promise
    })
    await log.append([record('slow', 0)])
    await vi.waitFor(() => expect(seen).toEqual(['slow-0']), patiently)
    await new Promise((resolve) => setTimeout(resolve, 1_700))
    slow.resolve()
    await log.append([record('slow', 1)])
    await vi.waitFor(() => expect(seen).toEqual(['slow-0', 'slow-1']), patiently)
    await consumer.stop()
    expect(consumer.errors).toEqual([])
    const again: string[] = []
    consume(openLog({ brokers, prefix }), (batch) => void again.push(...idsOf(batch)))
    await log.append([record('slow', 2)])
    await vi.waitFor(() => expect(again).toEqual(['slow-2']), patiently)
  })

  it('loses no record and keeps the order when consumers join and leave while batches are in flight', async () => {
    const prefix = uniquePrefix()
    const producer = openLog({ brokers, prefix })
    const seen: ConsumedRecord[] = []
    const handle: Handler = async (batch) => {
      await new Promise((resolve) => setTimeout(resolve, 40))
      seen.push(...batch)
    }
    const first = consume(openLog({ brokers, prefix }), handle, 50)
    const appended: string[] = []
    let enough = false
    const appending = (async () => {
      for (let from = 0; !enough; from += 50) {
        const records = numbered(50, 30, from)
        await producer.append(records)
        appended.push(...ids(records))
        await vi.waitFor(() => expect(appended.length - seen.length).toBeLessThan(500), patiently)
      }
    })()
    await vi.waitFor(() => expect(seen.length).toBeGreaterThan(100), patiently)
    let second = 0
    const joined = consume(
      openLog({ brokers, prefix }),
      async (batch) => {
        await handle(batch)
        second += batch.length
      },
      50,
    )
    await vi.waitFor(() => expect(second).toBeGreaterThan(500), patiently)
    await first.stop()
    const atStop = second
    await vi.waitFor(() => expect(second).toBeGreaterThan(atStop + 500), patiently)
    enough = true
    await appending
    await vi.waitFor(() => expect(new Set(idsOf(seen)).size).toBe(appended.length), patiently)
    expectOrder(seen)
    expect(joined.errors).toEqual([])
    // Batches in flight finish before partitions move, so no record repeats.
    expect(seen).toHaveLength(appended.length)
  })

  it('hands out again the records that a killed process had handled but not committed', async () => {
    const prefix = uniquePrefix()
    const log = openLog({ brokers, prefix, sessionTimeoutMs: 1_000 })
    await log.append(numbered(20, 5))
    const child = spawn(
      process.execPath,
      [
        '--input-type=module',
        '--eval',
        `
        import { createKafkaEventLog } from ${JSON.stringify(import.meta.resolve('@curfew/broker'))}
        const lane = { partitions: 4, retentionMs: 3_600_000 }
        const prefix = ${JSON.stringify(prefix)}
        const log = createKafkaEventLog({
          brokers: ${JSON.stringify(brokers)}, clientId: 'child', groupId: prefix + 'delivery', sessionTimeoutMs: 1_000, quarantine: async () => undefined,
          topics: { prefix, replicationFactor: 1, interactive: lane, bulk: lane, sessions: lane, deadLetters: lane, outcomes: lane },
        })
        log.consume(
          { lane: 'interactive', batchSize: 100, batchesInFlight: 4, onError: (error) => console.error(error) },
          async (batch) => {
            process.stdout.write(batch.map(({ headers }) => headers.ce_id).join(' ') + ' ')
            await new Promise(() => undefined)
          },
        )
        setInterval(() => undefined, 1_000)`,
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    )
    let output = ''
    child.stdout.on('data', (data) => {
      output += String(data)
    })
    await vi.waitFor(() => expect(output.trim().split(' ')).toHaveLength(20), patiently)
    child.kill('SIGKILL')
    await once(child, 'exit')
    const seen: ConsumedRecord[] = []
    consume(log, (batch) => void seen.push(...batch))
    await vi.waitFor(() => expect(idsOf(seen).sort()).toEqual(output.trim().split(' ').sort()), patiently)
    expectOrder(seen)
  })

  it('quarantines a record with any content in PostgreSQL, and hands out the records around it', async () => {
    const own = await createTestDatabase()
    closers.push(() => own.drop())
    const prefix = uniquePrefix()
    const log = openLog({ brokers, prefix, partitions: 1, quarantine: createQuarantine(own.db) })
    await log.append([record('before', 1)])
    const foreign = new kafkajs.Kafka({
      brokers: [...brokers],
      logLevel: kafkajs.logLevel.NOTHING,
    }).producer()
    await foreign.connect()
    closers.push(() => foreign.disconnect())
    const large = Buffer.alloc(2_097_000, 'x')
    const notUtf8 = Buffer.from([0, 0xff, 0xed, 0xa0, 0x80])
    for (const message of [
      { key: 'large', value: large, headers: { ce_id: 'large' } },
      { key: notUtf8, value: notUtf8, headers: { ce_id: notUtf8, ce_source: 'a\0b' } },
      { key: null, value: null, headers: {} },
      { key: 'many', value: 'many', headers: { long: 'x'.repeat(100_000), ce_id: 'many' } },
      {
        key: 'odd',
        value: 'odd',
        headers: { '': 'x', 'a\0b': ['1', '2'], ['__proto__']: 'x', constructor: 'y' },
      },
    ])
      await foreign.send({ topic: topicName('interactive', { prefix }), messages: [message] })
    await log.append([record('after', 2)])

    const seen: string[] = []
    const errors: unknown[] = []
    const consumer = log.consume(
      { lane: 'interactive', batchSize: 10, batchesInFlight: 1, onError: (error) => errors.push(error) },
      async (batch) => {
        seen.push(...batch.map(({ key }) => key))
        return batch
          .filter(({ key }) => key !== 'before' && key !== 'after')
          .map((bad) => ({ record: bad, kind: 'unreadable', reason: `\0 ${bad.headers.ce_id}` }))
      },
    )
    closers.push(() => consumer.stop())
    await vi.waitFor(() => expect(seen).toContain('after'), patiently)
    await consumer.stop()
    expect(errors).toEqual([])
    const { rows } = await own.db.query(
      `select octet_length(value) as kept, value_bytes, value_sha256, cut_short, key, headers, log_position, lane
         from quarantined_records order by id`,
    )
    const sha256 = (value: Buffer) => createHash('sha256').update(value).digest()
    expect(rows).toEqual([
      expect.objectContaining({
        kept: 65_536,
        value_bytes: 2_097_000,
        value_sha256: sha256(large),
        cut_short: true,
      }),
      expect.objectContaining({ kept: 5, value_bytes: 5, value_sha256: sha256(notUtf8), cut_short: false }),
      expect.objectContaining({ kept: 0, key: Buffer.alloc(0), headers: {}, cut_short: false }),
      expect.objectContaining({
        kept: 4,
        key: Buffer.from('many'),
        headers: { ce_id: 'many' },
        cut_short: true,
      }),
      expect.objectContaining({
        kept: 3,
        key: Buffer.from('odd'),
        headers: JSON.parse('{"": "x", "a\\u0000b": "2", "__proto__": "x", "constructor": "y"}'),
        cut_short: false,
      }),
    ])
    expect(rows[1]?.headers).toMatchObject({ ce_source: 'a\0b' })
    expect(rows[0]).toMatchObject({
      lane: 'interactive',
      log_position: `${topicName('interactive', { prefix })}/0@1`,
    })
    // The batch is committed: no record repeats.
    const again = consume(openLog({ brokers, prefix, partitions: 1 }), (batch) => {
      seen.push(...batch.map(({ key }) => key))
    })
    await log.append([record('last', 3)])
    await vi.waitFor(() => expect(seen).toContain('last'), patiently)
    expect(seen).toHaveLength(8)
    await again.stop()
  })

  it('hands out a batch again, and commits nothing, while its quarantine is unavailable', async () => {
    const prefix = uniquePrefix()
    const kept: string[] = []
    let available = false
    const quarantine: Quarantine = async (records) => {
      if (!available) throw new LedgerUnavailableError('PostgreSQL is not available')
      kept.push(...records.map((quarantined) => quarantined.record.key))
    }
    const refuseAll = (log: EventLog) => {
      const tries: string[] = []
      const consumer = log.consume(
        { lane: 'interactive', batchSize: 10, batchesInFlight: 1, onError: () => undefined },
        async (batch) => {
          tries.push(...batch.map(({ key }) => key))
          return batch.map((bad) => ({ record: bad, kind: 'unreadable', reason: 'a test' }))
        },
      )
      closers.push(() => consumer.stop())
      return { tries, consumer }
    }
    const log = openLog({ brokers, prefix, partitions: 1, quarantine })
    await log.append([record('bad', 1)])
    const first = refuseAll(log)
    await vi.waitFor(() => expect(first.tries.length).toBeGreaterThan(2), patiently)
    await first.consumer.stop()
    expect(kept).toEqual([])
    available = true
    const second = refuseAll(openLog({ brokers, prefix, partitions: 1, quarantine }))
    await vi.waitFor(() => expect(kept).toEqual(['bad']), patiently)
    await second.consumer.stop()
  })

  it('keeps the lanes apart', async () => {
    const log = openLog({ brokers })
    const seen: string[] = []
    consume(log, (batch) => void seen.push(...idsOf(batch)))
    const bulk = log.consume(
      { lane: 'bulk', batchSize: 10, batchesInFlight: 1, onError: () => undefined },
      async (batch) => {
        seen.push(...batch.map(({ lane, headers }) => `${lane} ${headers.ce_id}`))
        return []
      },
    )
    closers.push(() => bulk.stop())
    await log.append([record('a', 1), { ...record('a', 2), lane: 'bulk' }])
    await vi.waitFor(() => expect(seen.sort()).toEqual(['a-1', 'bulk a-2']), patiently)
  })

  it('accepts an append larger than one send', async () => {
    const log = openLog({ brokers })
    const large = Array.from({ length: 30 }, (_, index) => ({
      ...record('a', index),
      value: Buffer.alloc(100_000, 'x'),
    }))
    await log.append(large)
    const seen: string[] = []
    consume(log, (batch) => void seen.push(...idsOf(batch)))
    await vi.waitFor(() => expect(seen).toEqual(ids(large)), patiently)
  })

  it('creates a topic again that is deleted while it runs, and appends to it', async () => {
    const prefix = uniquePrefix()
    const topic = topicName('interactive', { prefix })
    const log = openLog({ brokers, prefix, partitions: 2 })
    await log.append(numbered(10, 5))
    await log.check()
    const admin = new kafkajs.Kafka({ brokers: [...brokers], logLevel: kafkajs.logLevel.NOTHING }).admin()
    await admin.connect()
    closers.push(() => admin.disconnect())
    await admin.deleteTopics({ topics: [topic] })
    const stored = async () =>
      (await admin.fetchTopicOffsets(topic)).reduce((sum, { offset }) => sum + Number(offset), 0)
    // The broker may still write to the old topic while it deletes it.
    await expect
      .poll(async () => log.append(numbered(1, 1)).then(stored).catch(String), patiently)
      .toBeLessThan(10)
    const before = await stored()
    await log.append(numbered(20, 5))
    expect(await stored()).toBe(before + 20)
  })

  it('emits no warnings and writes nothing to stdout', async () => {
    const warnings: string[] = []
    const onWarning = ({ name }: Error) => void warnings.push(name)
    process.on('warning', onWarning)
    const out = vi.spyOn(process.stdout, 'write')
    const log = openLog({ brokers })
    const seen: string[] = []
    const consumer = consume(log, (batch) => void seen.push(...idsOf(batch)))
    await log.append(numbered(10, 3))
    await vi.waitFor(() => expect(seen).toHaveLength(10), patiently)
    await consumer.stop()
    expect(out.mock.calls).toEqual([])
    out.mockRestore()
    process.off('warning', onWarning)
    expect(warnings).toEqual([])
  })
})

describe('the Kafka event log when the broker is unavailable', () => {
  let kafka: RunningKafka
  let missing: string | null = null
  beforeAll(async () => {
    // The tests kill the broker, so they start their own and ignore KAFKA_BROKERS.
    const opened = await openKafka({
      log: () => undefined,
      environment: { ...process.env, KAFKA_BROKERS: '' },
    })
    if (opened.how !== 'none') kafka = opened
    else missing = missingKafka(opened.lookedFor)
  })
  beforeEach((context) => {
    if (missing !== null) context.skip(missing)
  })
  afterAll(() => kafka?.stop())

  it('rejects in time, recovers, and hands out every confirmed record', async () => {
    const log = openLog({ brokers: kafka.brokers, appendTimeoutMs: 1_500 })
    const seen: ConsumedRecord[] = []
    const { errors } = consume(log, (batch) => void seen.push(...batch), 10)
    const confirmed: string[] = []
    let number = 0
    const append = async () => {
      const records = [record(`k${number % 5}`, number++)]
      await log.append(records)
      confirmed.push(...ids(records))
    }
    for (let index = 0; index < 50; index++) await append()
    await vi.waitFor(() => expect(seen).toHaveLength(50), patiently)

    // Appends are in flight when the broker is killed.
    const dying = Promise.allSettled(Array.from({ length: 20 }, append))
    await kafka.kill?.()
    await dying
    const startedAt = performance.now()
    const rejected = await append().catch((error: unknown) => error)
    expect(rejected).toBeInstanceOf(EventLogUnavailableError)
    expect(performance.now() - startedAt).toBeLessThan(2_000)
    await expect(log.check()).rejects.toBeInstanceOf(EventLogUnavailableError)

    await kafka.restart?.()
    await vi.waitFor(append, { timeout: 20_000, interval: 50 })
    for (let index = 0; index < 20; index++) await append()
    await vi.waitFor(() => expect(idsOf(seen)).toEqual(expect.arrayContaining(confirmed)), patiently)
    expectOrder(seen)
    expect(errors.length).toBeGreaterThan(0)
    await log.check()
  }, 60_000)

  it('does not lose the records that follow a failed append of the same size', async () => {
    // The hanging broker still holds the failed batch. If the next batch had the same producer id and sequence, the broker
    // would take it for a repetition when it resumes: it would confirm the batch and discard it.
    const log = openLog({ brokers: kafka.brokers, partitions: 1, appendTimeoutMs: 1_500 })
    const seen: string[] = []
    // The previous test restarted the broker: an election may still be in progress.
    await vi.waitFor(() => log.append([record('a', 0)]), { timeout: 20_000, interval: 50 })
    await kafka.suspend?.()
    // The signal takes effect with a delay: the broker may answer once more before it hangs.
    await vi.waitFor(() => expect(log.append([record('a', 1)])).rejects.toThrow(EventLogUnavailableError), {
      timeout: 20_000,
    })
    await kafka.resume?.()
    await vi.waitFor(() => log.append([record('a', 2)]), { timeout: 20_000, interval: 50 })
    consume(log, (batch) => void seen.push(...idsOf(batch)))
    await vi.waitFor(() => expect(seen).toContain('a-2'), patiently)
  }, 60_000)

  it('can start before its broker', async () => {
    await kafka.kill?.()
    const log = openLog({ brokers: kafka.brokers, appendTimeoutMs: 20_000 })
    const seen: string[] = []
    consume(log, (batch) => void seen.push(...idsOf(batch)))
    const appending = log.append([record('a', 1)])
    await kafka.restart?.()
    await appending
    await vi.waitFor(() => expect(seen).toEqual(['a-1']), patiently)
  }, 60_000)
})

describe('the default topics', () => {
  it('have stable names', () => {
    expect(topicName('interactive', DEFAULT_TOPICS)).toBe('logout.events')
    expect(topicName('bulk', DEFAULT_TOPICS)).toBe('logout.events.bulk')
    expect(topicName('sessions', DEFAULT_TOPICS)).toBe('logout.sessions')
  })
})
