import { topicName } from '@curfew/broker'
import kafkajs from 'kafkajs'
import { expect } from 'vitest'

// What an operator sees of a cluster and reads from it, with a client of its own.

const IN_SYNC_TIMEOUT_MS = 60_000

function openClient(brokers: readonly string[]) {
  return new kafkajs.Kafka({
    brokers: [...brokers],
    clientId: 'auditor',
    logLevel: kafkajs.logLevel.NOTHING,
    retry: { retries: 0 },
  })
}

/** Partitions that lack a copy in sync, as `topic/partition`; null where the cluster does not answer. */
async function laggingPartitions(brokers: readonly string[]): Promise<readonly string[] | null> {
  const admin = openClient(brokers).admin()
  try {
    await admin.connect()
    const { topics } = await admin.fetchTopicMetadata()
    return topics.flatMap(({ name, partitions }) =>
      partitions
        .filter(({ isr, replicas }) => isr.length < replicas.length)
        .map(({ partitionId }) => `${name}/${partitionId}`),
    )
  } catch {
    return null
  } finally {
    await admin.disconnect()
  }
}

/** Resolves when every copy of every partition is in sync. */
export async function untilInSync(brokers: readonly string[]): Promise<void> {
  const look = () => laggingPartitions(brokers)
  await expect
    .poll(look, { timeout: IN_SYNC_TIMEOUT_MS, interval: 100, message: 'partitions not in sync' })
    .toEqual([])
}

/** Creates Curfew's topics for the records of services with fewer partitions than Curfew would. */
export async function createLanes(
  brokers: readonly string[],
  prefix: string,
  partitions: number,
): Promise<void> {
  const admin = openClient(brokers).admin()
  await admin.connect()
  try {
    await admin.createTopics({
      waitForLeaders: true,
      topics: (['interactive', 'bulk', 'sessions'] as const).map((lane) => ({
        topic: topicName(lane, { prefix }),
        numPartitions: partitions,
        replicationFactor: 1,
      })),
    })
  } finally {
    await admin.disconnect()
  }
}

/** Ids of the logout events in the topics of both lanes, read from their beginning to their end. */
export async function readLoggedIds(
  brokers: readonly string[],
  prefix: string,
): Promise<ReadonlySet<string>> {
  const topics = (['interactive', 'bulk'] as const).map((lane) => topicName(lane, { prefix }))
  const kafka = openClient(brokers)
  /** The end of each partition that has not been read so far. */
  const ends = new Map<string, bigint>()
  const admin = kafka.admin()
  await admin.connect()
  for (const topic of topics) {
    for (const { partition, low, high } of await admin.fetchTopicOffsets(topic)) {
      if (BigInt(high) > BigInt(low)) ends.set(`${topic}/${partition}`, BigInt(high))
    }
  }
  await admin.disconnect()

  const ids = new Set<string>()
  if (ends.size === 0) return ids
  const done = Promise.withResolvers<void>()
  const consumer = kafka.consumer({ groupId: `${prefix}auditor`, retry: { retries: 5 } })
  consumer.on(consumer.events.CRASH, ({ payload }) => done.reject(payload.error))
  await consumer.connect()
  try {
    await consumer.subscribe({ topics, fromBeginning: true })
    await consumer.run({
      autoCommit: false,
      eachBatch: async ({ batch }) => {
        for (const { headers } of batch.messages) ids.add(String(headers?.ce_id))
        const partition = `${batch.topic}/${batch.partition}`
        if (BigInt(batch.lastOffset()) + 1n >= (ends.get(partition) ?? 0n)) ends.delete(partition)
        if (ends.size === 0) done.resolve()
      },
    })
    await done.promise
  } finally {
    await consumer.disconnect()
  }
  return ids
}
