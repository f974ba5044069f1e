import { createKafkaEventLog, topicName } from '@curfew/broker'
import type { EventLog, LogFault, LogRecord } from '@curfew/domain'
import kafkajs from 'kafkajs'
import { afterEach, expect, it } from 'vitest'
import { smallTopics, uniquePrefix } from '../support/kafka.ts'
import { useOwnKafka } from '../support/own-kafka.ts'

// Goal: a partition without a leader is reported, blocks no other partition, and is read when it has a leader again.
// Method: three brokers, a lane with one replica of every partition, and a broker that is killed.

const kafka = useOwnKafka(() => ({ brokers: 3 }))
const patiently = { timeout: 60_000, interval: 50 }
const PARTITIONS = 6

const closers: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

function openLog(prefix: string): EventLog {
  const log = createKafkaEventLog({
    ...{ brokers: kafka().brokers, clientId: 'test', groupId: `${prefix}delivery`, sessionTimeoutMs: 6_000 },
    topics: smallTopics(prefix, { partitions: PARTITIONS }),
    quarantine: async () => undefined,
  })
  closers.push(() => log.close())
  return log
}

function consume(log: EventLog) {
  const seen = new Set<string>()
  const faults: LogFault[] = []
  const consumer = log.consume(
    {
      ...{ lane: 'interactive', batchSize: 50, batchesInFlight: 2 },
      onError: () => undefined,
      onFault: async (fault) => void faults.push(fault),
    },
    async (batch) => {
      for (const { headers } of batch) seen.add(headers.ce_id ?? '?')
      return []
    },
  )
  closers.push(() => consumer.stop())
  return { ...consumer, seen, faults }
}

/** The id of the broker that leads every partition. */
async function leadersOf(topic: string): Promise<ReadonlyMap<number, number>> {
  const admin = new kafkajs.Kafka({
    brokers: [...kafka().brokers],
    logLevel: kafkajs.logLevel.NOTHING,
  }).admin()
  await admin.connect()
  try {
    const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
    return new Map((topics[0]?.partitions ?? []).map(({ partitionId, leader }) => [partitionId, leader]))
  } finally {
    await admin.disconnect()
  }
}

/** A key for every partition. */
function keysOf(topic: string): readonly string[] {
  const partitionMetadata = Array.from({ length: PARTITIONS }, (_, partitionId) => ({
    ...{ partitionErrorCode: 0, partitionId, leader: 1, replicas: [], isr: [] },
  }))
  const partition = kafkajs.Partitioners.DefaultPartitioner()
  const keys = new Map<number, string>()
  for (let number = 0; keys.size < PARTITIONS; number++) {
    const key = `key-${number}`
    keys.set(partition({ topic, partitionMetadata, message: { key, value: null } }), key)
  }
  return Array.from({ length: PARTITIONS }, (_, at) => keys.get(at) ?? '')
}

/** Appends one record for every key, and repeats every append until it is confirmed. */
async function append(log: EventLog, name: string, keys: readonly string[]): Promise<readonly string[]> {
  const records = keys.map((key): LogRecord => {
    const id = `${name}-${key}`
    return { lane: 'interactive', key, value: Buffer.from(id), headers: { ce_id: id } }
  })
  await Promise.all(
    records.map((record) =>
      expect.poll(() => log.append([record]).then(String, String), patiently).toBe('undefined'),
    ),
  )
  return records.map(({ headers }) => headers.ce_id ?? '')
}

it.each(['runs before', 'starts during the failure'])(
  'a consumer that %s reads every partition that has a leader',
  async (when) => {
    const prefix = uniquePrefix()
    const topic = topicName('interactive', { prefix })
    const log = openLog(prefix)
    await log.check()
    const keys = keysOf(topic)
    const leaders = await leadersOf(topic)
    const node = kafka().nodes.find(({ id }) => id === leaders.get(0))
    if (node === undefined) throw new Error('no broker leads the first partition')
    const led = keys.filter((_, partition) => leaders.get(partition) !== node.id)
    const names = keys.flatMap((_, at) => (leaders.get(at) === node.id ? [`${topic}/${at}`] : []))
    const early = when === 'runs before' ? consume(log) : null
    const before = await append(log, 'before', keys)
    if (early !== null) await expect.poll(() => missing(early, before), patiently).toEqual([])

    await node.kill()
    const consumer = early ?? consume(log)
    try {
      const message = `no broker leads ${names.join(', ')}: start a broker with an in-sync replica`
      await expect
        .poll(() => consumer.status(), patiently)
        .toMatchObject({ state: 'unreadable', error: { message } })
      for (const name of ['during', 'later', 'latest']) {
        const ids = await append(log, name, led)
        await expect.poll(() => missing(consumer, ids), patiently).toEqual([])
      }
    } finally {
      await node.restart()
    }
    const after = await append(log, 'after', keys)
    await expect.poll(() => missing(consumer, [...before, ...after]), patiently).toEqual([])
    await expect.poll(() => consumer.status(), patiently).toEqual({ state: 'consuming' })
    expect(consumer.faults).toEqual([])
  },
  240_000,
)

function missing(
  { seen }: { readonly seen: ReadonlySet<string> },
  ids: readonly string[],
): readonly string[] {
  return ids.filter((id) => !seen.has(id))
}
