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

/** The events of a membership. */
export interface MembershipListener extends FetchListener {
  /** Called with all partitions of the topic without a leader, whether or not they are ours. */
  leaderless(partitions: readonly number[]): void
  /** Called before every join. The join waits for it. */
  beforeJoin(): Promise<void>
  /** The group assigned these partitions to us. None is fetched before its `resume`. */
  joined(partitions: readonly number[]): void
  /**
   * Delivers the records of a fetch. The next fetch follows when it resolves: of later records if `take` was called, else the
   * same.
   */
  fetched(read: Read, take: () => void): Promise<void>
}

/** One membership of the group, through one kafkajs consumer. When it ends, a new one follows. */
export interface Membership {
  /** Rejects when the membership has failed. */
  readonly ended: Promise<never>
  fail(error: unknown): void
  /** @param ledger the ledger that the commits name. */
  commit(commits: readonly DueCommit[], ledger: LedgerId | null): Promise<void>
  /** The group's commits by partition. */
  readCommits(partitions: readonly number[]): Promise<ReadonlyMap<number, Commit>>
  /** The first offset in the log. */
  readStart(partition: number): Promise<bigint>
  /** The offset after the last record. */
  readEnd(partition: number): Promise<bigint>
  /** The first offset at or after a time; null if there is none. */
  readFirstSince(partition: number, sinceMs: number): Promise<bigint | null>
  seek(partition: number, offset: bigint): void
  pause(partition: number): void
  resume(partition: number): void
  /** Leaves the group. Rejects if Kafka does not answer; the group then notices after the session timeout. */
  leave(): Promise<void>
}

/** How long a fetch waits for a first byte. It also bounds the wait of `leave` and of a resumed partition. */
const FETCH_WAIT_MS = 200
const FETCH_BYTES_MAX = 4 * 1_048_576
const FETCH_PARTITION_BYTES_MAX = 262_144
const REQUEST_TIMEOUT_MS = 5_000
const REBALANCE_TIMEOUT_MS = 15_000
const LEAVE_TIMEOUT_MS = 5_000

/** The group's commit of a partition. Its place is null if there is no commit. */
export interface Commit {
  readonly place: Place | null
  readonly metadata: string | null | undefined
}

/** Joins the group. The listener's `joined` reports success, and `ended` failure. */
export function openMembership(options: MembershipOptions, listener: MembershipListener): Membership {
  const { connection, lane, topic, groupId, sessionTimeoutMs } = options
  registerCodecs()
  checkRecordBatches()
  settleJoins()
  const client = createClient(connection, REQUEST_TIMEOUT_MS)
  const ended = Promise.withResolvers<never>()
  // The promise may reject while it has no listener.
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
    // kafkajs's own restart is off. At a bad time it continues after `stop`. After errors that it considers permanent, such as a
    // missing coordinator, it does not restart.
    retry: { ...FEW_RETRIES, retries: 4, restartOnFailure: async () => false },
  })
  const watchdog = watch(consumer, REBALANCE_TIMEOUT_MS + sessionTimeoutMs + REQUEST_TIMEOUT_MS, ended.reject)
  consumer.on(consumer.events.CRASH, ({ payload }) => ended.reject(payload.error))
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    const partitions = payload.memberAssignment[topic] ?? []
    // The event comes within the join, so before any fetch.
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
        // All partitions of a fetch enter the backlog at once.
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
    if (cluster === null) throw new Error('kafkajs created no partition assigner')
    return cluster
  }
  /** Calls a method that throws after kafkajs has crashed, even before its CRASH event. */
  const attempt = (call: () => void) => {
    try {
      call()
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
    seek: (partition, offset) => attempt(() => consumer.seek({ topic, partition, offset: String(offset) })),
    pause: (partition) => attempt(() => consumer.pause([{ topic, partitions: [partition] }])),
    resume: (partition) => attempt(() => consumer.resume([{ topic, partitions: [partition] }])),
    async leave() {
      leaving = true
      clearInterval(watchdog)
      try {
        // kafkajs cannot leave during a join. The group would then wait for the lost member until the session timeout.
        const left = started.catch(() => undefined).then(() => consumer.disconnect())
        await within(left, LEAVE_TIMEOUT_MS, 'leaving the group')
      } finally {
        client.kill()
      }
    },
  }
}

/**
 * Detects a stalled consumer. The loop of kafkajs runs several times a second, idle or paused. After some lost connections and
 * rebalances it hangs without an error, and only a new consumer helps.
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
    if (silentMs > stalledMs)
      onStalled(new Error(`the Kafka consumer stalled for ${Math.round(silentMs)} ms, and is replaced`))
  }, 1_000)
}

/** A consumer's view of the cluster, with the original methods that `withCluster` replaces. */
interface FoundCluster {
  readonly cluster: Cluster
  readonly findCoordinator: Cluster['findGroupCoordinator']
  readonly fetchOffsets: Cluster['fetchTopicsOffset']
}

/**
 * kafkajs's round-robin assigner, wrapped to reach the consumer's view of the cluster. The function from `onCluster` runs before
 * the first step of a join, the search for the coordinator.
 *
 * kafkajs fetches nothing until the leader of each partition without a commit has named its first offset. We seek every partition
 * before we resume it, so the answer is replaced by zeros.
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
    // Message formats before Kafka 0.11 have no epoch.
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
  if (silent !== undefined) throw new Error(`Kafka's answer lacks the commit of ${topic}/${silent}`)
  return commits
}

async function readBound(
  cluster: FoundCluster,
  wanted: { readonly topic: string; readonly partition: number; readonly fromBeginning: boolean },
): Promise<bigint> {
  const { topic, partition, fromBeginning } = wanted
  const bound = await readOffset(cluster, wanted)
  if (bound !== null) return bound
  throw new Error(
    `Kafka's answer lacks the ${fromBeginning ? 'first' : 'last'} offset of ${topic}/${partition}`,
  )
}

type Wanted = { readonly fromBeginning: boolean } | { readonly fromTimestamp: number }

async function readOffset(
  { cluster, fetchOffsets }: FoundCluster,
  { topic, partition, ...wanted }: Wanted & { readonly topic: string; readonly partition: number },
): Promise<bigint | null> {
  // The leader may have changed since the last refresh.
  await cluster.refreshMetadata()
  const [answer] = await fetchOffsets([{ topic, partitions: [{ partition }], ...wanted }])
  const offset = BigInt(answer?.partitions[0]?.offset ?? -1)
  return offset < 0n ? null : offset
}
