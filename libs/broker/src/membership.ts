import type { LedgerId, LogLane } from '@curfew/domain'
import kafkajs, {
  type Cluster,
  type Consumer as KafkaConsumer,
  type KafkaMessage,
  type PartitionAssigner,
} from 'kafkajs'
import type { DueCommit, Read } from './backlog.ts'
import { type ConnectionOptions, createClient, FEW_RETRIES, within } from './client.ts'
import { registerCodecs } from './codecs.ts'
import { type FetchListener, guardFetches } from './fetch-guard.ts'
import { settleJoins } from './joins.ts'
import { guardLeaders } from './leaderless.ts'
import { decodeMark, type Entry, encodeCommit, type Place } from './mark.ts'
import { checkRecordBatches } from './record-batches.ts'
import { fromMessage } from './records.ts'

export interface MembershipOptions {
  readonly connection: ConnectionOptions
  readonly lane: LogLane
  readonly topic: string
  readonly groupId: string
  readonly sessionTimeoutMs: number
}

/** What a membership tells of. */
export interface MembershipListener extends FetchListener {
  /** No broker leads these partitions of the topic, whether they are ours or not, and some broker each of the others. */
  leaderless(partitions: readonly number[]): void
  /** Called before every join, which waits for it. */
  beforeJoin(): Promise<void>
  /** The group gave us these partitions. Nothing is fetched from them before `resume`. */
  joined(partitions: readonly number[]): void
  /** kafkajs fetches the next records of the partition when it resolves: those after these where `take` was called, else the same. */
  fetched(read: Read, take: () => void): Promise<void>
}

/** One membership of the group, that of one kafkajs consumer. A new one follows when it ends. */
export interface Membership {
  /** Rejects when it has failed. */
  readonly ended: Promise<never>
  fail(error: unknown): void
  /** @param ledger is named by the commits. */
  commit(commits: readonly DueCommit[], ledger: LedgerId | null): Promise<void>
  /** What the group has committed; null for partitions without a commit. */
  readCommits(partitions: readonly number[]): Promise<ReadonlyMap<number, Commit>>
  /** The first offset that is there. */
  readStart(partition: number): Promise<bigint>
  /** The offset after the last record. */
  readEnd(partition: number): Promise<bigint>
  /** The first offset at or after a time; null where there is none. */
  readFirstSince(partition: number, sinceMs: number): Promise<bigint | null>
  seek(partition: number, offset: bigint): void
  pause(partition: number): void
  resume(partition: number): void
  /** Leaves the group. Rejects where the group could not be told; it notices a session later. */
  leave(): Promise<void>
}

/** How long a fetch waits for a first byte. It also bounds how long `leave` and a resumed partition wait. */
const FETCH_WAIT_MS = 200
const FETCH_BYTES_MAX = 4 * 1_048_576
const FETCH_PARTITION_BYTES_MAX = 262_144
const REQUEST_TIMEOUT_MS = 5_000
const REBALANCE_TIMEOUT_MS = 15_000
const LEAVE_TIMEOUT_MS = 5_000

/** What the group committed of a partition. */
export interface Commit {
  readonly place: Place | null
  readonly metadata: string | null | undefined
}

/** Joins the group. Whether that succeeds is told by `joined` and `ended`. */
export function openMembership(options: MembershipOptions, listener: MembershipListener): Membership {
  const { connection, lane, topic, groupId, sessionTimeoutMs } = options
  registerCodecs()
  checkRecordBatches()
  settleJoins()
  const client = createClient(connection, REQUEST_TIMEOUT_MS)
  const ended = Promise.withResolvers<never>()
  // Nobody may be listening at the moment when it is rejected.
  ended.promise.catch(() => undefined)
  let cluster: FoundCluster | null = null
  let leaving = false
  const consumer = client.kafka.consumer({
    groupId,
    sessionTimeout: sessionTimeoutMs,
    rebalanceTimeout: REBALANCE_TIMEOUT_MS,
    heartbeatInterval: Math.min(1_000, Math.floor(sessionTimeoutMs / 5)),
    maxWaitTimeInMs: FETCH_WAIT_MS,
    minBytes: 1,
    maxBytes: FETCH_BYTES_MAX,
    maxBytesPerPartition: FETCH_PARTITION_BYTES_MAX,
    allowAutoTopicCreation: false,
    partitionAssigners: [
      withCluster((found) => {
        cluster = found
        guardFetches(found.cluster, listener)
        guardLeaders(found.cluster, topic, listener.leaderless)
        return async () => {
          if (leaving) throw new kafkajs.KafkaJSNonRetriableError('this consumer leaves the group')
          await listener.beforeJoin()
        }
      }),
    ],
    // Its own restart is left off: it goes on after `stop` when that came at a bad moment, and not at all after errors
    // that it takes for permanent, such as a coordinator that was not found.
    retry: { ...FEW_RETRIES, retries: 4, restartOnFailure: async () => false },
  })
  const watchdog = watch(consumer, REBALANCE_TIMEOUT_MS + sessionTimeoutMs + REQUEST_TIMEOUT_MS, ended.reject)
  consumer.on(consumer.events.CRASH, ({ payload }) => ended.reject(payload.error))
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    const partitions = payload.memberAssignment[topic] ?? []
    // Emitted within the join, so before anything is fetched.
    if (partitions.length > 0) consumer.pause([{ topic, partitions: [...partitions] }])
    listener.joined(partitions)
  })
  const started = consumer
    .connect()
    .then(() => consumer.subscribe({ topics: [topic], fromBeginning: true }))
    .then(() =>
      consumer.run({
        autoCommit: false,
        eachBatchAutoResolve: false,
        // All partitions of a fetch are put into the backlog at once.
        partitionsConsumedConcurrently: 1_000,
        eachBatch: async ({ batch, resolveOffset }) => {
          const { partition } = batch
          const { fetchedOffset } = batch as typeof batch & { readonly fetchedOffset: string }
          const readMs = Date.now()
          const entries = batch.messages.map((message) =>
            toEntry(message, { lane, topic, partition, readMs }),
          )
          const next = BigInt(batch.lastOffset()) + 1n
          await listener.fetched({ partition, from: BigInt(fetchedOffset), next, entries }, () =>
            resolveOffset(batch.lastOffset()),
          )
        },
      }),
    )
  started.catch(ended.reject)

  const inCluster = () => {
    if (cluster === null) throw new Error('kafkajs made no assigner')
    return cluster
  }
  /** Tells kafkajs something that it does not take once it has crashed, which it may not have said yet. */
  const tell = (what: () => void) => {
    try {
      what()
    } catch (error) {
      ended.reject(error)
    }
  }

  return {
    ended: ended.promise,
    fail: ended.reject,
    async commit(commits, ledger) {
      const offsets = commits.map(({ partition, next, mark }) => ({
        ...{ topic, partition, offset: String(next) },
        metadata: encodeCommit(mark, ledger),
      }))
      await within(consumer.commitOffsets(offsets), REQUEST_TIMEOUT_MS * 2, 'committing')
    },
    readCommits: (partitions) => readCommits(inCluster(), { groupId, topic, partitions }),
    readStart: (partition) => readBound(inCluster(), { topic, partition, fromBeginning: true }),
    readEnd: (partition) => readBound(inCluster(), { topic, partition, fromBeginning: false }),
    readFirstSince: (partition, sinceMs) =>
      readOffset(inCluster(), { topic, partition, fromTimestamp: sinceMs }),
    seek: (partition, offset) => tell(() => consumer.seek({ topic, partition, offset: String(offset) })),
    pause: (partition) => tell(() => consumer.pause([{ topic, partitions: [partition] }])),
    resume: (partition) => tell(() => consumer.resume([{ topic, partitions: [partition] }])),
    async leave() {
      leaving = true
      clearInterval(watchdog)
      try {
        // kafkajs cannot leave while it is joining, and the group would wait a session long for a member that went.
        const left = started.catch(() => undefined).then(() => consumer.disconnect())
        await within(left, LEAVE_TIMEOUT_MS, 'leaving the group')
      } finally {
        client.kill()
      }
    },
  }
}

/**
 * The loop of kafkajs turns several times a second, idle or paused. Where it stands still kafkajs hangs, as it does after
 * some lost connections and rebalances without any error, and a new consumer is the only cure.
 */
function watch(
  consumer: KafkaConsumer,
  stalledMs: number,
  onStalled: (error: Error) => void,
): NodeJS.Timeout {
  let aliveAt = performance.now()
  const alive = () => {
    aliveAt = performance.now()
  }
  consumer.on(consumer.events.FETCH, alive)
  consumer.on(consumer.events.GROUP_JOIN, alive)
  return setInterval(() => {
    const silentMs = performance.now() - aliveAt
    if (silentMs > stalledMs) onStalled(new Error(`the Kafka consumer stood still for ${silentMs} ms`))
  }, 1_000)
}

/** The cluster as one consumer of kafkajs sees it, and what of it kafkajs itself is given otherwise. */
interface FoundCluster {
  readonly cluster: Cluster
  readonly findCoordinator: Cluster['findGroupCoordinator']
  readonly fetchOffsets: Cluster['fetchTopicsOffset']
}

/**
 * kafkajs's own assigner, which kafkajs gives its view of the cluster. What `onCluster` returns is put before what kafkajs does first in
 * a join: to look for the coordinator.
 *
 * kafkajs fetches nothing at all until it has heard where each partition without a commit begins, each from its leader. As we say where
 * every partition is read before it is resumed, it need not ask.
 */
function withCluster(onCluster: (found: FoundCluster) => () => Promise<void>): PartitionAssigner {
  return (config) => {
    const { cluster } = config
    const findCoordinator = cluster.findGroupCoordinator.bind(cluster)
    const fetchOffsets = cluster.fetchTopicsOffset.bind(cluster)
    const beforeJoin = onCluster({ cluster, findCoordinator, fetchOffsets })
    cluster.fetchTopicsOffset = async (topics) =>
      topics.map(({ topic, partitions }) => ({
        topic,
        partitions: partitions.map(({ partition }) => ({ partition, offset: '0' })),
      }))
    cluster.findGroupCoordinator = async (group) => {
      await beforeJoin()
      return findCoordinator(group)
    }
    return kafkajs.PartitionAssigners.roundRobin(config)
  }
}

function toEntry(
  message: KafkaMessage,
  { readMs, ...at }: { lane: LogLane; topic: string; partition: number; readMs: number },
): Entry {
  const { batchContext } = message as KafkaMessage & {
    readonly batchContext?: { readonly partitionLeaderEpoch: number }
  }
  return {
    offset: BigInt(message.offset),
    // The message formats before Kafka 0.11 have none.
    epoch: batchContext?.partitionLeaderEpoch ?? -1,
    timestamp: message.timestamp,
    readMs,
    record: fromMessage(message, at),
  }
}

async function readCommits(
  { findCoordinator }: FoundCluster,
  { groupId, topic, partitions }: { groupId: string; topic: string; partitions: readonly number[] },
): Promise<ReadonlyMap<number, Commit>> {
  const coordinator = await findCoordinator({ groupId })
  const asked = partitions.map((partition) => ({ partition, offset: '' }))
  const { responses } = await coordinator.offsetFetch({ groupId, topics: [{ topic, partitions: asked }] })
  const answered = (responses[0]?.partitions ?? []) as readonly {
    readonly partition: number
    readonly offset: string
    readonly metadata?: string | null
  }[]
  const commits = new Map(
    answered.map(({ partition, offset, metadata }) => {
      const next = BigInt(offset)
      const place = next < 0n ? null : { next, mark: decodeMark(metadata, next) }
      return [partition, { place, metadata }]
    }),
  )
  const silent = partitions.find((partition) => !commits.has(partition))
  if (silent !== undefined) throw new Error(`Kafka does not say what is committed of ${topic}/${silent}`)
  return commits
}

async function readBound(
  cluster: FoundCluster,
  wanted: { readonly topic: string; readonly partition: number; readonly fromBeginning: boolean },
): Promise<bigint> {
  const { topic, partition, fromBeginning } = wanted
  const bound = await readOffset(cluster, wanted)
  if (bound !== null) return bound
  throw new Error(`Kafka does not say where ${topic}/${partition} ${fromBeginning ? 'begins' : 'ends'}`)
}

type Wanted = { readonly fromBeginning: boolean } | { readonly fromTimestamp: number }

async function readOffset(
  { cluster, fetchOffsets }: FoundCluster,
  { topic, partition, ...wanted }: Wanted & { readonly topic: string; readonly partition: number },
): Promise<bigint | null> {
  // Its leader may have changed since kafkajs looked.
  await cluster.refreshMetadata()
  const [answer] = await fetchOffsets([{ topic, partitions: [{ partition }], ...wanted }])
  const offset = BigInt(answer?.partitions[0]?.offset ?? -1)
  return offset < 0n ? null : offset
}
