import { createKafkaEventLog, createKafkaMonitor, createKafkaPublisher, topicName } from '@curfew/broker'
import type { EventLog, LaneState, LogLane, LogRecord } from '@curfew/domain'
import kafkajs from 'kafkajs'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { describeWithKafka, smallTopics, uniquePrefix } from '../support/kafka.ts'

// Goal: topics have the required settings, and operators get a fault with the command that repairs it. Deleted topics are created
// again. The monitor reports the real lag. Method: a real broker, whose topics an operator changes.

const patiently = { timeout: 25_000, interval: 50 }
const LANES = ['interactive', 'bulk', 'sessions'] as const
const KINDS = [...LANES, 'deadLetters', 'outcomes'] as const

const closers: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

const record = (key: string, lane: LogLane = 'interactive'): LogRecord => ({
  lane,
  key,
  value: Buffer.from(key),
  headers: { ce_id: key },
})

await describeWithKafka('topics in Kafka', (brokers) => {
  const kafka = new kafkajs.Kafka({
    brokers: [...brokers],
    clientId: 'operator',
    logLevel: kafkajs.logLevel.NOTHING,
  })
  const admin = kafka.admin()
  beforeAll(() => admin.connect())
  afterAll(() => admin.disconnect())

  function setUp({ partitions = 2, prefix = uniquePrefix() }: { partitions?: number; prefix?: string } = {}) {
    const topics = smallTopics(prefix, { partitions })
    const lines: string[] = []
    const options = {
      brokers,
      clientId: 'test',
      groupId: `${prefix}curfew`,
      topics,
      sessionTimeoutMs: 3_000,
      quarantine: async () => undefined,
      log: (level: string, message: string) =>
        void (message.startsWith('topic') && lines.push(`${level} ${message}`)),
    }
    const openLog = (): EventLog => {
      const log = createKafkaEventLog(options)
      closers.push(() => log.close())
      return log
    }
    const openPublisher = () => {
      const publisher = createKafkaPublisher(options)
      closers.push(() => publisher.close())
      return publisher
    }
    return {
      prefix,
      lines,
      openLog,
      openPublisher,
      monitor: createKafkaMonitor(options),
      name: (kind: Parameters<typeof topicName>[0]) => topicName(kind, { prefix }),
    }
  }

  /** The settings of the topic itself, without the defaults of the broker. */
  async function configOf(topic: string): Promise<Readonly<Record<string, string>>> {
    const { resources } = await admin.describeConfigs({
      includeSynonyms: false,
      resources: [{ type: kafkajs.ConfigResourceTypes.TOPIC, name: topic }],
    })
    return Object.fromEntries(
      (resources[0]?.configEntries ?? [])
        .filter(({ configSource }) => configSource === kafkajs.ConfigSource.TOPIC_CONFIG)
        .map(({ configName, configValue }) => [configName, configValue]),
    )
  }

  async function alter(topic: string, changes: Readonly<Record<string, string>>): Promise<void> {
    // Kafka resets every setting that the request does not name to the default of the broker.
    const configEntries = Object.entries({ ...(await configOf(topic)), ...changes }).map(([name, value]) => ({
      name,
      value,
    }))
    await admin.alterConfigs({
      validateOnly: false,
      resources: [{ type: kafkajs.ConfigResourceTypes.TOPIC, name: topic, configEntries }],
    })
    await expect.poll(() => configOf(topic), patiently).toMatchObject(changes)
  }

  async function produce(
    topic: string,
    messages: readonly { readonly partition: number; readonly timestamp: string }[],
  ): Promise<void> {
    const producer = kafka.producer({ createPartitioner: kafkajs.Partitioners.DefaultPartitioner })
    await producer.connect()
    await producer.send({ topic, messages: messages.map((message) => ({ ...message, value: 'x' })) })
    await producer.disconnect()
  }

  const laneOf = async (monitor: ReturnType<typeof setUp>['monitor'], lane: LogLane = 'interactive') =>
    (await monitor.look()).lanes.find((state) => state.lane === lane) as LaneState

  test('are created with all required settings, whatever the defaults of the brokers are', async () => {
    const { openLog, openPublisher, monitor, name } = setUp()
    await openLog().check()
    await openPublisher().check()
    for (const kind of KINDS)
      expect(await configOf(name(kind))).toEqual({
        'cleanup.policy': 'delete',
        'retention.ms': '3600000',
        'retention.bytes': '-1',
        'max.message.bytes': '2097152',
        'min.insync.replicas': '1',
        'unclean.leader.election.enable': 'false',
        'compression.type': 'producer',
        'message.timestamp.type': 'LogAppendTime',
      })
    expect((await monitor.look()).topics).toEqual(KINDS.map((kind) => ({ topic: name(kind), faults: [] })))
  })

  test('with other settings are reported once at the start, with the setting, the reason and the command', async () => {
    const { openLog, monitor, lines, name } = setUp()
    await openLog().check()
    lines.length = 0
    await alter(name('interactive'), { 'cleanup.policy': 'compact', 'compression.type': 'zstd' })
    await alter(name('sessions'), { 'max.message.bytes': '5000' })
    const log = openLog()
    await log.check()
    await log.check()
    const [compact, zstd, small, ...more] = lines
    expect(compact).toMatch(
      `error topic ${name('interactive')}: cleanup.policy is compact and must be delete: `,
    )
    expect(zstd).toMatch(
      `warn topic ${name('interactive')}: compression.type is zstd and should be producer: `,
    )
    expect(small).toMatch(`error topic ${name('sessions')}: max.message.bytes is 5000 and must be 2097152: `)
    expect(more).toEqual([])
    const fix = `kafka-configs.sh --bootstrap-server ${brokers.join(',')} --alter --entity-type topics --entity-name ${name('interactive')} --add-config cleanup.policy=delete,compression.type=producer`
    const { topics } = await monitor.look()
    expect(topics.find(({ topic }) => topic === name('interactive'))?.faults[0]).toMatchObject({ fix })
    // The topics are used as they are: to refuse logouts because of a setting would be worse.
    await log.append([record('a')])
  })

  test('with a small maximum refuse a large record with an error that names the topic, and accept other records', async () => {
    const { openLog, lines, name } = setUp()
    const log = openLog()
    await log.check()
    await alter(name('interactive'), { 'max.message.bytes': '5000' })
    const large = { ...record('large'), value: Buffer.alloc(6_000, 'x') }
    const [refused, taken] = await Promise.allSettled([log.append([large]), log.append([record('small')])])
    expect(taken.status).toBe('fulfilled')
    expect(refused.status === 'rejected' && String(refused.reason)).toMatch(
      `RecordTooLargeError: Kafka topic ${name('interactive')} takes no record of `,
    )
    expect(lines.filter((line) => line.includes('sent again'))).toEqual([])
  })

  test('with fewer partitions than requested are reported, and used', async () => {
    const { openLog, prefix } = setUp({ partitions: 2 })
    await openLog().check()
    const larger = setUp({ partitions: 3, prefix })
    const log = larger.openLog()
    await log.check()
    expect(larger.lines).toEqual(
      LANES.map((kind) =>
        expect.stringMatching(`^warn topic ${larger.name(kind)}: partitions is 2 and should be 3: `),
      ),
    )
    await log.append([record('a')])
  })

  test('are created again when they are deleted, and the service continues', async () => {
    const { openLog, lines, name } = setUp()
    const log = openLog()
    await log.append([record('before')])
    await log.check()
    await admin.deleteTopics({ topics: LANES.map(name) })
    const vanished = async () => {
      await log.check()
      return lines.filter((line) => line.includes('vanished')).sort()
    }
    await expect
      .poll(vanished, patiently)
      .toEqual(
        LANES.map(
          (kind) => `error topic ${name(kind)} had vanished with its records, and was created again`,
        ).sort(),
      )
    await expect
      .poll(() => log.append([record('after')]).then(() => 'stored', String), patiently)
      .toBe('stored')
  })

  test('that refuse records make the service unavailable in the interactive lane, and degraded in another lane', async () => {
    const { openLog, name } = setUp({ partitions: 1 })
    const log = openLog()
    await log.check()
    const refusal = (lane: LogLane) =>
      `Kafka refuses records: topic ${name(lane)} at partition 0 (1 of 2 replicas in sync)`
    const checked = () => log.check().then(() => 'ready', String)
    await alter(name('bulk'), { 'min.insync.replicas': '2' })
    expect(await checked()).toBe(`EventLogDegradedError: ${refusal('bulk')}`)
    await alter(name('bulk'), { 'min.insync.replicas': '1' })
    expect(await checked()).toBe('ready')
    await alter(name('interactive'), { 'min.insync.replicas': '2' })
    expect(await checked()).toBe(`EventLogUnavailableError: ${refusal('interactive')}`)
    await alter(name('interactive'), { 'min.insync.replicas': '1' })
    expect(await checked()).toBe('ready')
  })

  test('are monitored for waiting records, the age of the oldest, and partitions without a consumer', async () => {
    const { openLog, monitor, name } = setUp({ partitions: 3 })
    // A topic of an operator, whose records have the timestamps of their writer.
    await admin.createTopics({
      topics: [{ topic: name('interactive'), numPartitions: 3, replicationFactor: 1 }],
    })
    await expect
      .poll(() => laneOf(monitor), patiently)
      .toMatchObject({ waiting: 0, oldestSeconds: 0, unassigned: [0, 1, 2] })
    expect(await laneOf(monitor, 'bulk')).toEqual({
      lane: 'bulk',
      unknown: `topic ${name('bulk')} is missing`,
    })
    const log = openLog()
    await log.append([record('a'), record('b', 'sessions')])
    const hourAgo = String(Date.now() - 3_600_000)
    await produce(name('interactive'), [
      { partition: 0, timestamp: hourAgo },
      { partition: 2, timestamp: String(Date.now() - 7_000) },
    ])
    const behind = await laneOf(monitor)
    expect(behind).toMatchObject({ unknown: null, waiting: 3, unassigned: [0, 1, 2], removed: 0 })
    expect(behind.unknown === null && behind.oldestSeconds).toBeGreaterThanOrEqual(3_600)
    expect(behind.unknown === null && behind.oldestSeconds).toBeLessThan(4_200)
    expect(await laneOf(monitor, 'sessions')).toMatchObject({ waiting: 1 })
    // Every look has a new connection without metadata: it must not miss a partition.
    for (let look = 0; look < 20; look++) {
      const { lanes } = await monitor.look()
      expect(lanes.map((state) => state.unknown ?? state.waiting)).toEqual([3, 0, 1])
    }

    const { promise: released, resolve: release } = Promise.withResolvers<void>()
    const consumer = log.consume(
      { lane: 'interactive', batchSize: 10, batchesInFlight: 3, onError: () => undefined },
      async () => {
        await released
        return []
      },
    )
    closers.push(() => consumer.stop())
    await expect.poll(() => laneOf(monitor), patiently).toMatchObject({ unassigned: [], waiting: 3 })
    release()
    await expect.poll(() => laneOf(monitor), patiently).toMatchObject({ waiting: 0, oldestSeconds: 0 })
  })

  test('are monitored for records that were removed before a worker read them', async () => {
    const { openLog, monitor, name } = setUp({ partitions: 1 })
    const log = openLog()
    await log.append([record('a')])
    const consumer = log.consume(
      { lane: 'interactive', batchSize: 10, batchesInFlight: 1, onError: () => undefined },
      async () => [],
    )
    await expect.poll(() => laneOf(monitor), patiently).toMatchObject({ waiting: 0 })
    await consumer.stop()
    await log.append(['b', 'c', 'd', 'e'].map((key) => record(key)))
    // kafkajs finds leaders only for topics whose metadata it has.
    await admin.fetchTopicOffsets(name('interactive'))
    await admin.deleteTopicRecords({
      topic: name('interactive'),
      partitions: [{ partition: 0, offset: '4' }],
    })
    expect(await laneOf(monitor)).toMatchObject({ waiting: 1, removed: 3, unassigned: [0] })
  })
})
