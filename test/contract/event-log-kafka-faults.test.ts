import { glob, open, stat, truncate } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createKafkaEventLog, topicName } from '@curfew/broker'
import type { ConsumedRecord, EventLog, LogFault, LogRecord } from '@curfew/domain'
import kafkajs, { type Admin, type FetchOffsetsPartition } from 'kafkajs'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { describeWithKafka, smallTopics, uniquePrefix } from '../support/kafka.ts'
import { useOwnKafka } from '../support/own-kafka.ts'

// Goal: no accepted record is skipped silently when Kafka loses, removes, compresses or damages records.
// Method: a real broker whose logs are truncated, emptied and created again while a consumer reads.

const closers: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

const patiently = { timeout: 25_000, interval: 10 }

interface Place {
  readonly brokers: readonly string[]
  readonly prefix: string
}

function openLog({ brokers, prefix }: Place, partitions = 1): EventLog {
  const log = createKafkaEventLog({
    ...{ brokers, clientId: 'test', groupId: `${prefix}delivery`, sessionTimeoutMs: 3_000 },
    topics: smallTopics(prefix, { partitions }),
    quarantine: async () => undefined,
  })
  closers.push(() => log.close())
  return log
}

function consume(
  log: EventLog,
  {
    handle = () => undefined,
    able,
    batchSize = 50,
  }: {
    handle?: (batch: readonly ConsumedRecord[]) => Promise<void> | void
    able?: () => boolean
    batchSize?: number
  } = {},
) {
  const errors: unknown[] = []
  const faults: LogFault[] = []
  const seen: string[] = []
  const consumer = log.consume(
    {
      ...{ lane: 'interactive', batchSize, batchesInFlight: 4, onError: (error) => errors.push(error) },
      ...(able !== undefined && { able }),
      onFault: async (fault) => void faults.push(fault),
    },
    async (batch) => {
      await handle(batch)
      seen.push(...batch.map(({ headers }) => headers.ce_id ?? '?'))
      return []
    },
  )
  closers.push(() => consumer.stop())
  return { ...consumer, errors, faults, seen }
}

const record = (id: string, { key = 'a', value = Buffer.from(id) } = {}): LogRecord => ({
  ...{ lane: 'interactive', key, value },
  headers: { ce_id: id },
})
const numbered = (name: string, count: number, value?: Buffer<ArrayBuffer>) =>
  Array.from({ length: count }, (_, at) => record(`${name}-${at}`, value === undefined ? {} : { value }))
const idsOf = (records: readonly LogRecord[]) => records.map(({ headers }) => headers.ce_id ?? '?')

async function openAdmin(brokers: readonly string[]): Promise<Admin> {
  const kafka = new kafkajs.Kafka({ brokers: [...brokers], logLevel: kafkajs.logLevel.NOTHING })
  const admin = kafka.admin()
  await admin.connect()
  closers.push(() => admin.disconnect())
  return admin
}

/** Commits as a member of the group. */
async function commit(
  brokers: readonly string[],
  {
    groupId,
    topic,
    partitions,
  }: { groupId: string; topic: string; partitions: readonly FetchOffsetsPartition[] },
): Promise<void> {
  const kafka = new kafkajs.Kafka({ brokers: [...brokers], logLevel: kafkajs.logLevel.NOTHING })
  const consumer = kafka.consumer({ groupId })
  const joined = Promise.withResolvers<void>()
  consumer.on(consumer.events.GROUP_JOIN, () => joined.resolve())
  await consumer.connect()
  await consumer.subscribe({ topics: [topic] })
  await consumer.run({ autoCommit: false, eachBatchAutoResolve: false, eachBatch: async () => undefined })
  await joined.promise
  await consumer.commitOffsets(partitions.map((partition) => ({ topic, ...partition })))
  await consumer.disconnect()
}

/** Removes records as retention does. */
async function removeBefore(admin: Admin, topic: string, offset: number): Promise<void> {
  // kafkajs deletes records only of topics whose metadata it has.
  await admin.fetchTopicOffsets(topic)
  await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: String(offset) }] })
}

/** Deletes a topic and creates it again, as soon as Kafka has finished the deletion. */
async function recreate(admin: Admin, topic: string): Promise<void> {
  await admin.deleteTopics({ topics: [topic] })
  const create = () => admin.createTopics({ topics: [{ topic, numPartitions: 1, replicationFactor: 1 }] })
  await vi.waitFor(create, patiently)
}

await describeWithKafka('the Kafka event log', (brokers) => {
  it.each(['gzip', 'snappy', 'lz4', 'zstd'])(
    'reads records that the broker compresses with %s',
    async (codec) => {
      const prefix = uniquePrefix()
      const admin = await openAdmin(brokers)
      const topic = topicName('interactive', { prefix })
      // As with a cluster-wide default.
      const configEntries = [{ name: 'compression.type', value: codec }]
      await admin.createTopics({
        topics: [{ topic, numPartitions: 1, replicationFactor: 1, configEntries }],
      })
      const log = openLog({ brokers, prefix })
      // Several blocks of every codec: codecs frame blocks, and the Java client has its own framing for Snappy.
      const large = Buffer.from(
        JSON.stringify(Array.from({ length: 20_000 }, (_, at) => `value ${at * 7919}`)),
      )
      const records = [...numbered('small', 20), record('large', { value: large })]
      await log.append(records)
      const values: Uint8Array[] = []
      const consumer = consume(log, {
        handle: (batch) => void values.push(...batch.map(({ value }) => value)),
      })
      await vi.waitFor(() => expect(consumer.seen).toEqual(idsOf(records)), patiently)
      expect(Buffer.from(values.at(-1) ?? [])).toEqual(large)
      expect(consumer.status()).toEqual({ state: 'consuming' })
    },
  )

  it('reports records that retention removed before they were read', async () => {
    const place = { brokers, prefix: uniquePrefix() }
    const log = openLog(place)
    const records = numbered('r', 50)
    await log.append(records)
    const first = consume(log, { batchSize: 10 })
    await vi.waitFor(() => expect(first.seen.length).toBeGreaterThan(0), patiently)
    await first.stop()
    const topic = topicName('interactive', place)
    const more = numbered('more', 50)
    await log.append(more)
    const admin = await openAdmin(brokers)
    await removeBefore(admin, topic, 80)

    const second = consume(openLog(place))
    await vi.waitFor(() => expect(second.seen).toContain('more-49'), patiently)
    expect(second.seen).toEqual(idsOf(more.slice(30)))
    const partition = `${topic}/0`
    const from = first.seen.length
    expect(second.faults).toEqual([{ kind: 'removed', lane: 'interactive', partition, from, to: 80 }])
    await second.stop()
    // The fault is reported once.
    const third = consume(openLog(place))
    await log.append([record('last')])
    await vi.waitFor(() => expect(third.seen).toEqual(['last']), patiently)
    expect(third.faults).toEqual([])
  })

  it('reports removed records as possibly unread if no commit exists', async () => {
    const place = { brokers, prefix: uniquePrefix() }
    const log = openLog(place)
    await log.append(numbered('r', 10))
    const topic = topicName('interactive', place)
    await removeBefore(await openAdmin(brokers), topic, 6)
    const consumer = consume(log)
    await vi.waitFor(() => expect(consumer.seen).toEqual(['r-6', 'r-7', 'r-8', 'r-9']), patiently)
    expect(consumer.faults).toMatchObject([{ kind: 'removed', from: null, to: 6 }])
  })

  it('reports records that retention removes before a slow consumer reads them', async () => {
    const place = { brokers, prefix: uniquePrefix() }
    const log = openLog(place)
    const records = numbered('r', 40, Buffer.alloc(100_000, 'x'))
    await log.append(records)
    const gate = Promise.withResolvers<void>()
    const consumer = consume(log, { batchSize: 2, handle: () => gate.promise })
    await vi.waitFor(() => expect(consumer.status()).toEqual({ state: 'consuming' }), patiently)
    const topic = topicName('interactive', place)
    const admin = await openAdmin(brokers)
    await removeBefore(admin, topic, 35)
    gate.resolve()
    await vi.waitFor(() => expect(consumer.seen).toContain('r-39'), patiently)
    expect(consumer.faults).toEqual([expect.objectContaining({ kind: 'removed', to: 35 })])
    const unread = (consumer.faults[0]?.to ?? 0) - (consumer.faults[0]?.from ?? 0)
    expect(new Set(consumer.seen).size + unread).toBe(40)
  })

  it('hands out the records of a topic that was deleted and created again, despite commits of the old topic', async () => {
    const place = { brokers, prefix: uniquePrefix() }
    const log = openLog(place)
    const consumer = consume(log)
    const before = numbered('before', 30)
    await log.append(before)
    await vi.waitFor(() => expect(consumer.seen).toHaveLength(30), patiently)
    const admin = await openAdmin(brokers)
    await recreate(admin, topicName('interactive', place))
    // First fewer records than before, so that the consumer can notice the new topic, and then more.
    const after = numbered('after', 10)
    const writer = openLog(place)
    await vi.waitFor(() => writer.append(after), patiently)
    await vi.waitFor(() => expect(consumer.seen).toEqual(expect.arrayContaining(idsOf(after))), patiently)
    await writer.append(numbered('more', 60))
    await vi.waitFor(() => expect(consumer.seen).toContain('more-59'), patiently)

    // A commit of the old topic may arrive after its deletion, from a disconnected consumer or a restored backup.
    await consumer.stop()
    const group = { groupId: `${place.prefix}delivery`, topic: topicName('interactive', place) }
    const [committed] = await admin.fetchOffsets({ groupId: group.groupId, topics: [group.topic] })
    expect(committed?.partitions).toMatchObject([{ offset: '70' }])
    await recreate(admin, group.topic)
    const recreated = numbered('recreated', 90)
    await vi.waitFor(() => openLog(place).append(recreated), patiently)
    await commit(brokers, { ...group, partitions: committed?.partitions ?? [] })
    const last = consume(openLog(place))
    await vi.waitFor(() => expect(last.seen).toEqual(expect.arrayContaining(idsOf(recreated))), patiently)
    expect(last.faults).toMatchObject([{ kind: 'rewound', from: 70, to: 0 }])
  })

  it('creates a topic again that is deleted while it is read, and continues to read', async () => {
    const place = { brokers, prefix: uniquePrefix() }
    const consumer = consume(openLog(place))
    await vi.waitFor(() => expect(consumer.status()).toEqual({ state: 'consuming' }), patiently)
    const admin = await openAdmin(brokers)
    const topic = topicName('interactive', place)
    await admin.deleteTopics({ topics: [topic] })
    // The consumer creates it: no other client runs.
    await vi.waitFor(async () => expect(await admin.listTopics()).toContain(topic), patiently)
    await vi.waitFor(() => openLog(place).append([record('after')]), patiently)
    await vi.waitFor(() => expect(consumer.seen).toEqual(['after']), patiently)
  })

  it('skips a partition that it cannot read, reports it, and reads the others', async () => {
    const place = { brokers, prefix: uniquePrefix() }
    const log = openLog(place, 2)
    await log.check()
    const kafka = new kafkajs.Kafka({ brokers: [...brokers], logLevel: kafkajs.logLevel.NOTHING })
    const foreign = kafka.producer()
    await foreign.connect()
    closers.push(() => foreign.disconnect())
    const topic = topicName('interactive', place)
    const send = (partition: number, id: string, value: Buffer) =>
      foreign.send({
        topic,
        compression: kafkajs.CompressionTypes.GZIP,
        messages: [{ partition, key: 'a', value, headers: { ce_id: id } }],
      })
    // 70 MB of zeros, in 70 kB.
    await send(0, 'bomb', Buffer.alloc(70_000_000))
    await send(0, 'behind', Buffer.from('x'))
    const consumer = consume(log)
    await vi.waitFor(() => expect(consumer.status()).toMatchObject({ state: 'unreadable' }), patiently)
    await send(1, 'beside', Buffer.from('x'))
    await vi.waitFor(() => expect(consumer.seen).toEqual(['beside']), patiently)
    expect(consumer.status()).toMatchObject({ state: 'unreadable', error: expect.any(Error) })
    const admin = await openAdmin(brokers)
    await removeBefore(admin, topic, 1)
    await vi.waitFor(() => expect(consumer.seen).toEqual(['beside', 'behind']), patiently)
    expect(consumer.status()).toEqual({ state: 'consuming' })
    expect(consumer.faults).toMatchObject([{ kind: 'removed', to: 1 }])
    expect(consumer.errors.length).toBeLessThan(10)
  })

  it('gives up its partitions while its process cannot work, and takes partitions again later', async () => {
    const place = { brokers, prefix: uniquePrefix() }
    const log = openLog(place, 4)
    let able = true
    const first = consume(openLog(place, 4), { able: () => able })
    const second = consume(openLog(place, 4))
    let number = 0
    const sent: string[] = []
    const send = async () => {
      const records = Array.from({ length: 8 }, (_, at) => record(`${number++}`, { key: `k${at}` }))
      await log.append(records)
      sent.push(...idsOf(records))
    }
    const shared = async () => {
      const before = [first.seen.length, second.seen.length] as const
      await send()
      await vi.waitFor(
        () => expect(new Set([...first.seen, ...second.seen]).size).toBe(sent.length),
        patiently,
      )
      expect(first.seen.length).toBeGreaterThan(before[0])
      expect(second.seen.length).toBeGreaterThan(before[1])
    }
    await vi.waitFor(shared, patiently)
    able = false
    await vi.waitFor(() => expect(first.status()).toEqual({ state: 'left' }), patiently)
    const handled = first.seen.length
    await send()
    await vi.waitFor(() => expect(new Set([...first.seen, ...second.seen]).size).toBe(sent.length), patiently)
    expect(first.seen.length).toBe(handled)
    able = true
    await vi.waitFor(shared, patiently)
  })
})

describe('the Kafka event log after the loss of its end', () => {
  const kafka = useOwnKafka(() => ({ brokers: 1 }))
  const newPlace = () => ({ brokers: kafka().brokers, prefix: uniquePrefix() })
  /** The test cannot reach the files of a broker in a container. */
  const isForeign = () => kafka().how !== 'maven'

  async function fileOf(topic: string): Promise<string> {
    const files: string[] = []
    for await (const file of glob(join(tmpdir(), `curfew-kafka-*/**/${topic}-0/*.log`))) files.push(file)
    expect(files).toHaveLength(1)
    return files[0] ?? ''
  }

  /** Flips a bit of a log while the broker runs, as a failing disk does. */
  async function flip(topic: string, at: (log: Buffer) => number, bit = 1): Promise<void> {
    const file = await open(await fileOf(topic), 'r+')
    const log = await file.readFile()
    const place = at(log)
    await file.write(Buffer.from([log.readUInt8(place) ^ bit]), 0, 1, place)
    await file.close()
  }

  /** Loses the end of a log, by default its second half, like a disk that had not written all confirmed data. */
  async function loseEnd(topic: string, kept = 0.5): Promise<void> {
    const own = kafka()
    await own.kill()
    const file = await fileOf(topic)
    const { size } = await stat(file)
    await truncate(file, Math.floor(size * kept))
    await own.restart()
  }

  /** Appends a hundred records, one at a time, and handles and commits them. */
  async function handleHundred(place: ReturnType<typeof newPlace>): Promise<void> {
    const log = openLog(place)
    for (const old of numbered('old', 100)) await log.append([old])
    const first = consume(log)
    await vi.waitFor(() => expect(first.seen).toHaveLength(100), patiently)
    await first.stop()
  }

  it('hands out later records even if the log has grown beyond the commit', async () => {
    if (isForeign()) return
    const place = newPlace()
    await handleHundred(place)
    await loseEnd(topicName('interactive', place))
    const writer = openLog(place)
    const since = numbered('new', 200)
    await vi.waitFor(() => writer.append(since), patiently)
    const second = consume(openLog(place))
    await vi.waitFor(() => expect(second.seen).toEqual(expect.arrayContaining(idsOf(since))), patiently)
    expect(second.faults).toEqual([expect.objectContaining({ kind: 'rewound', from: 100 })])
    await second.stop()
    const third = consume(openLog(place))
    await writer.append([record('last')])
    await vi.waitFor(() => expect(third.seen).toEqual(['last']), patiently)
    expect(third.faults).toEqual([])
  }, 60_000)

  it('hands out later records even if the log ends at the offset of the last handled record', async () => {
    if (isForeign()) return
    const place = newPlace()
    await handleHundred(place)
    const topic = topicName('interactive', place)
    await loseEnd(topic)
    const admin = await openAdmin(place.brokers)
    const [end] = await vi.waitFor(() => admin.fetchTopicOffsets(topic), patiently)
    const since = numbered('new', 99 - Number(end?.high))
    await vi.waitFor(() => openLog(place).append(since), patiently)
    const second = consume(openLog(place))
    await vi.waitFor(() => expect(second.seen).toEqual(expect.arrayContaining(idsOf(since))), patiently)
    expect(second.faults).toEqual([expect.objectContaining({ kind: 'rewound', from: 100 })])
  }, 60_000)

  it('hands out later records to a consumer that was reading', async () => {
    if (isForeign()) return
    const place = newPlace()
    const log = openLog(place)
    const consumer = consume(log)
    for (const old of numbered('old', 100)) await log.append([old])
    await vi.waitFor(() => expect(consumer.seen).toHaveLength(100), patiently)
    await loseEnd(topicName('interactive', place))
    const since = numbered('new', 30)
    await vi.waitFor(() => log.append(since), patiently)
    await vi.waitFor(() => expect(consumer.seen).toEqual(expect.arrayContaining(idsOf(since))), patiently)
    // The last commit may not have reached the broker before it was killed.
    expect(consumer.faults).toContainEqual(expect.objectContaining({ kind: 'rewound' }))
  }, 60_000)

  it('hands out later records, and lost records that were read but not handled', async () => {
    if (isForeign()) return
    const place = newPlace()
    const log = openLog(place)
    const gate = Promise.withResolvers<void>()
    let held = 0
    const consumer = consume(log, {
      handle: async ([first]) => {
        if (first?.headers.ce_id?.startsWith('before')) return
        held++
        await gate.promise
      },
    })
    const before = numbered('before', 10)
    await log.append(before)
    await vi.waitFor(() => expect(consumer.seen).toEqual(idsOf(before)), patiently)
    const old = numbered('old', 90)
    // One append, so that all records are read when the first is handed out.
    await log.append(old)
    await vi.waitFor(() => expect(held).toBe(1), patiently)
    await loseEnd(topicName('interactive', place), 0.7)
    // More than the lost records, so that the log extends beyond the last record that was read.
    const since = numbered('new', 120)
    await vi.waitFor(() => log.append(since), patiently)
    gate.resolve()
    const all = idsOf([...old, ...since])
    await vi.waitFor(() => expect(consumer.seen).toEqual(expect.arrayContaining(all)), patiently)
    expect(consumer.faults).toEqual([expect.objectContaining({ kind: 'rewound', from: 100 })])
  }, 60_000)

  /** The offset in the file of the batch that has `value` in a record. */
  const startOf = (log: Buffer, value: string) => {
    const wanted = log.indexOf(value)
    for (let at = 0; ; ) {
      const end = at + 12 + log.readInt32BE(at + 8)
      if (end > wanted) return at
      at = end
    }
  }

  const inRecord = (log: Buffer) => log.indexOf('harmed-0')
  const inLength = (log: Buffer) => startOf(log, 'harmed-0') + 11
  const inFormat = (log: Buffer) => startOf(log, 'harmed-0') + 16
  it.each([
    ['a record has a wrong value', inRecord, 1],
    ['the length of a batch is too large', inLength, 128],
    ['the length of a batch is too small', inLength, 64],
    ['a batch has an unknown format', inFormat, 1],
  ])(
    'hands out no damaged record if %s, reports it, and reads on after a repair',
    async (_, at, bit) => {
      if (isForeign()) return
      const place = newPlace()
      const log = openLog(place)
      for (const name of ['sound', 'harmed', 'behind']) await log.append(numbered(name, 2))
      const topic = topicName('interactive', place)
      let where = 0
      const damage = (bytes: Buffer) => {
        where = at(bytes)
        return where
      }
      await flip(topic, damage, bit)
      const consumer = consume(openLog(place))
      await vi.waitFor(() => expect(consumer.status()).toMatchObject({ state: 'unreadable' }), patiently)
      const message = expect.stringMatching(/events\/0: .*damaged/)
      expect(consumer.errors).toEqual([expect.objectContaining({ message })])
      await vi.waitFor(() => expect(consumer.seen).toEqual(['sound-0', 'sound-1']), patiently)
      await flip(topic, () => where, bit)
      await vi.waitFor(() => expect(consumer.seen).toHaveLength(6), patiently)
      expect(consumer.seen).toEqual(['sound-0', 'sound-1', 'harmed-0', 'harmed-1', 'behind-0', 'behind-1'])
      expect(consumer.status()).toEqual({ state: 'consuming' })
      expect(consumer.faults).toEqual([])
    },
    60_000,
  )

  it('repeats no record if the broker is killed without a loss', async () => {
    const place = newPlace()
    const log = openLog(place)
    const consumer = consume(log)
    await log.append(numbered('before', 20))
    await vi.waitFor(() => expect(consumer.seen).toHaveLength(20), patiently)
    // The stop commits, for the consumer that follows.
    await consumer.stop()
    const second = consume(openLog(place))
    await log.append(numbered('between', 20))
    await vi.waitFor(() => expect(second.seen).toHaveLength(20), patiently)
    await kafka().kill()
    await kafka().restart()
    const after = numbered('after', 20)
    await vi.waitFor(() => log.append(after), patiently)
    await vi.waitFor(() => expect(second.seen).toEqual(expect.arrayContaining(idsOf(after))), patiently)
    expect(second.faults).toEqual([])
  }, 60_000)
})
