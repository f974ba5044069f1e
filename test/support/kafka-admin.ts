import { groupName, topicName } from '@curfew/broker'
import kafkajs from 'kafkajs'
import { expect } from 'vitest'

// Reads the state of a cluster and its topics as an operator does, with a separate client.

const IN_SYNC_TIMEOUT_MS = 60_000

function openClient(brokers: readonly string[], retries = 0) {
  return new kafkajs.Kafka({
    brokers: [...brokers],
    clientId: 'auditor',
    logLevel: kafkajs.logLevel.NOTHING,
    retry: { retries },
  })
}

/** Partitions that lack a replica in sync, as `topic/partition`; null if the cluster does not answer. */
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

/** Resolves when every replica of every partition is in sync. */
export async function untilInSync(brokers: readonly string[]): Promise<void> {
  const look = () => laggingPartitions(brokers)
  await expect
    .poll(look, { timeout: IN_SYNC_TIMEOUT_MS, interval: 100, message: 'partitions not in sync' })
    .toEqual([])
}

/** Creates the topics of the lanes with fewer partitions than Curfew would create. */
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

/** The place of a record in the event log. */
export interface LogPlace {
  readonly topic: string
  readonly partition: number
  readonly offset: bigint
}

/** The progress of the consumers of one lane, as Kafka reports it. */
export interface LaneProgress {
  readonly topic: string
  /** The group's state and its members, in words. */
  readonly group: string
  /** The committed offset by partition. Lacks partitions without a commit. */
  readonly commits: ReadonlyMap<number, bigint>
}

const LANES = ['interactive', 'bulk'] as const

/** The topics of a cluster, as an auditor reads them. */
export interface AuditedLog {
  /** The first record of each logout event, by its id. */
  readonly places: ReadonlyMap<string, LogPlace>
  /** The progress of the consumers at the time of the call. */
  progress(): Promise<readonly LaneProgress[]>
}

/** Reads the topics of the logout lanes to their end at the time of the call. */
export async function auditLog(brokers: readonly string[], prefix: string): Promise<AuditedLog> {
  const places = await readLogged(brokers, prefix)
  return { places, progress: () => readProgress(brokers, prefix) }
}

/** The progress of the consumers of the logout lanes. */
async function readProgress(brokers: readonly string[], prefix: string): Promise<readonly LaneProgress[]> {
  // kafkajs finds the other brokers in its first retry.
  const admin = openClient(brokers, 5).admin()
  await admin.connect()
  try {
    return await Promise.all(LANES.map((lane) => readLane(admin, lane, prefix)))
  } finally {
    await admin.disconnect()
  }
}

async function readLane(
  admin: kafkajs.Admin,
  lane: (typeof LANES)[number],
  prefix: string,
): Promise<LaneProgress> {
  const topic = topicName(lane, { prefix })
  const groupId = groupName(lane, `${prefix}curfew`)
  try {
    const { groups } = await admin.describeGroups([groupId])
    const [found] = await admin.fetchOffsets({ groupId, topics: [topic] })
    const commits = (found?.partitions ?? [])
      .map(({ partition, offset }) => [partition, BigInt(offset)] as const)
      .filter(([, offset]) => offset >= 0n)
    const states = groups.map(({ state, members }) => `${state} with ${members.length} members`)
    return { topic, group: `group ${groupId}: ${states.join(', ')}`, commits: new Map(commits) }
  } catch (error) {
    return { topic, group: `group ${groupId}: ${String(error)}`, commits: new Map() }
  }
}

/** Reads the topics of the logout lanes from beginning to end. @returns the first record of each logout event, by id. */
async function readLogged(
  brokers: readonly string[],
  prefix: string,
): Promise<ReadonlyMap<string, LogPlace>> {
  const topics = LANES.map((lane) => topicName(lane, { prefix }))
  const kafka = openClient(brokers)
  /** The end of each partition that is not fully read. */
  const ends = new Map<string, bigint>()
  const admin = kafka.admin()
  await admin.connect()
  for (const topic of topics) {
    for (const { partition, low, high } of await admin.fetchTopicOffsets(topic)) {
      if (BigInt(high) > BigInt(low)) ends.set(`${topic}/${partition}`, BigInt(high))
    }
  }
  await admin.disconnect()

  const places = new Map<string, LogPlace>()
  if (ends.size === 0) return places
  const done = Promise.withResolvers<void>()
  const consumer = kafka.consumer({ groupId: `${prefix}auditor`, retry: { retries: 5 } })
  consumer.on(consumer.events.CRASH, ({ payload }) => done.reject(payload.error))
  await consumer.connect()
  try {
    await consumer.subscribe({ topics, fromBeginning: true })
    await consumer.run({
      autoCommit: false,
      eachBatch: async ({ batch }) => {
        const { topic, partition } = batch
        for (const { headers, offset } of batch.messages) {
          const id = String(headers?.ce_id)
          if (!places.has(id)) places.set(id, { topic, partition, offset: BigInt(offset) })
        }
        const name = `${topic}/${partition}`
        if (BigInt(batch.lastOffset()) + 1n >= (ends.get(name) ?? 0n)) ends.delete(name)
        if (ends.size === 0) done.resolve()
      },
    })
    await done.promise
  } finally {
    await consumer.disconnect()
  }
  return places
}
