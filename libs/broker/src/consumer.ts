import type { BatchHandler, ConsumeOptions, Consumer, Quarantine } from '@curfew/domain'
import kafkajs, { type Consumer as KafkaConsumer, type PartitionAssigner } from 'kafkajs'
import { createBacklog, type DueCommit } from './backlog.ts'
import { type Client, type ConnectionOptions, createClient, FEW_RETRIES, original, within } from './client.ts'
import { fromMessage } from './records.ts'

export interface LaneConsumerOptions extends ConsumeOptions {
  readonly connection: ConnectionOptions
  readonly topic: string
  /** One group for each topic: kafkajs deals the leader's topics to every member, whatever they subscribed to. */
  readonly groupId: string
  /** After how long without a sign of life the group gives a member's partitions to others, in milliseconds. */
  readonly sessionTimeoutMs: number
  /** Resolves when the topics exist. */
  readonly ready: () => Promise<void>
  readonly quarantine: Quarantine
}

/** How long a fetch waits for a first byte. It also bounds how long `stop` and a resumed partition wait. */
const FETCH_WAIT_MS = 200
const FETCH_BYTES_MAX = 4 * 1_048_576
const FETCH_PARTITION_BYTES_MAX = 262_144
/** How long a full partition holds the fetch loop before it is paused, which costs up to `FETCH_WAIT_MS` to undo. */
const FULL_WAIT_MS = 100
const REQUEST_TIMEOUT_MS = 5_000
const REBALANCE_TIMEOUT_MS = 15_000
const PAUSE_MS_MIN = 100
const PAUSE_MS_MAX = 5_000
const RECONNECT_PAUSE_MS_MAX = 2_000
const LEAVE_TIMEOUT_MS = 5_000
/** How long `stop` tries to commit when the broker does not answer. What is not committed comes again. */
const LAST_COMMIT_TIMEOUT_MS = 10_000

/** Answers that only say that a rebalance is under way. */
const REBALANCE = ['REBALANCE_IN_PROGRESS', 'ILLEGAL_GENERATION', 'UNKNOWN_MEMBER_ID']

/** One membership of the group; a new one follows when it fails. */
interface Membership {
  readonly client: Client
  readonly consumer: KafkaConsumer
  fail(error: unknown): void
}

/**
 * Consumes one lane. kafkajs only reads: its loop fills the backlog and is never held up by a handler, so that
 * heartbeats go on and rebalances are noticed however long a handler takes. Handling, repeating and committing are ours.
 */
export function createLaneConsumer(options: LaneConsumerOptions, handle: BatchHandler): Consumer {
  const { connection, topic, lane, groupId, batchSize, batchesInFlight, sessionTimeoutMs, onError } = options
  const backlog = createBacklog()
  const full = batchSize * 2
  const held = new Set<number>()
  let membership: Membership | null = null
  let paused = false
  let joining = false
  let stopping = false
  let inFlight = 0
  let handling = 0
  let committing = false
  let changed = Promise.withResolvers<void>()
  const halt = Promise.withResolvers<never>()
  // Nobody may be listening at the moment when it is rejected.
  halt.promise.catch(() => undefined)

  function notify(): void {
    changed.resolve()
    changed = Promise.withResolvers()
  }

  /** Waits for `condition`, which is looked at after every change; at most `timeoutMs`. Says whether it came. */
  async function until(condition: () => boolean, timeoutMs = Number.POSITIVE_INFINITY): Promise<boolean> {
    if (condition()) return true
    let late = false
    const timer = Number.isFinite(timeoutMs)
      ? setTimeout(() => {
          late = true
          notify()
        }, timeoutMs)
      : undefined
    while (!condition() && !late) await changed.promise
    clearTimeout(timer)
    return condition()
  }

  const mayHandOut = () => !paused && !joining && !stopping

  function pump(): void {
    while (mayHandOut() && inFlight < batchesInFlight) {
      const batch = backlog.take(batchSize)
      if (batch === null) break
      inFlight++
      void work(batch)
    }
    letGo()
    notify()
  }

  async function work(batch: NonNullable<ReturnType<typeof backlog.take>>): Promise<void> {
    let pauseMs = PAUSE_MS_MIN
    while (await until(() => stopping || mayHandOut())) {
      const records = backlog.records(batch)
      // None left: the group gave them to another consumer while this one could not handle them.
      if (stopping || records.length === 0) break
      handling++
      try {
        // One offset says how far a partition has been handled, so a slow batch keeps its partitions.
        const quarantined = await handle(records, () => undefined)
        if (quarantined.length > 0) await options.quarantine(quarantined)
        backlog.handled(batch)
        break
      } catch (error) {
        onError(error)
      } finally {
        handling--
        notify()
      }
      await until(() => stopping, pauseMs)
      pauseMs = Math.min(pauseMs * 2, PAUSE_MS_MAX)
    }
    backlog.release(batch)
    inFlight--
    void commit()
    pump()
  }

  /** Commits what has been handled, all partitions together, one request at a time, until nothing is due. */
  async function commit(): Promise<void> {
    if (committing) return
    committing = true
    let due: readonly DueCommit[] = backlog.dueCommits()
    for (; due.length > 0 && membership !== null; due = backlog.dueCommits()) {
      const by = membership
      try {
        const offsets = due.map(({ partition, next }) => ({ topic, partition, offset: String(next) }))
        await within(by.consumer.commitOffsets(offsets), REQUEST_TIMEOUT_MS * 2, 'committing')
        if (by === membership) backlog.committed(due)
      } catch (error) {
        // During a rebalance the commit waits for its end: what is still ours then is committed by the new generation.
        if (!isRebalance(error)) onError(error)
        await until(() => by !== membership, PAUSE_MS_MIN)
      }
    }
    committing = false
    notify()
  }

  /** Lets kafkajs fetch again from partitions that have room. */
  function letGo(): void {
    for (const partition of held) {
      if (membership === null || backlog.waiting(partition) > batchSize / 2) continue
      held.delete(partition)
      fetching('resume', membership.consumer, partition)
    }
  }

  function fetching(change: 'pause' | 'resume', consumer: KafkaConsumer, partition: number): void {
    try {
      consumer[change]([{ topic, partitions: [partition] }])
    } catch (error) {
      // It has crashed and not said so yet. What follows it begins with nothing paused.
      membership?.fail(error)
    }
  }

  /**
   * Called before every join. kafkajs has no hook for "partitions are about to be taken away" and joins at once. We
   * let what is being handled come to its end and commit it first, so that a rebalance repeats nothing. Not
   * longer than half a session, for there are no heartbeats meanwhile; what takes longer may be handled twice.
   */
  async function beforeJoin(): Promise<void> {
    joining = true
    const deadlineMs = sessionTimeoutMs / 2
    await until(() => handling === 0, deadlineMs)
    void commit()
    await until(() => !committing, deadlineMs / 2)
  }

  function joined(partitions: readonly number[]): void {
    backlog.assign(partitions)
    // kafkajs remembers what was paused before.
    for (const partition of partitions) held.add(partition)
    joining = false
    void commit()
    pump()
  }

  /** Takes part in the group until that fails or we stop. */
  async function takePart(): Promise<void> {
    await Promise.race([options.ready(), halt.promise])
    const client = createClient(connection, REQUEST_TIMEOUT_MS)
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
      partitionAssigners: [withHook(beforeJoin)],
      // Its own restart is left off: it goes on after `stop` when that came at a bad moment, and not at all after errors
      // that it takes for permanent, such as a coordinator that was not found.
      retry: { ...FEW_RETRIES, retries: 4, restartOnFailure: async () => false },
    })
    const ended = Promise.withResolvers<never>()
    ended.promise.catch(() => undefined)
    let aliveAt = Date.now()
    const alive = () => {
      aliveAt = Date.now()
    }
    consumer.on(consumer.events.CRASH, ({ payload }) => ended.reject(payload.error))
    consumer.on(consumer.events.FETCH, alive)
    consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
      alive()
      joined(payload.memberAssignment[topic] ?? [])
    })
    // The loop turns several times a second, idle or paused. Where it stands still kafkajs hangs, as it does after
    // some lost connections and rebalances without any error, and a new consumer is the only cure.
    const stalledMs = REBALANCE_TIMEOUT_MS + sessionTimeoutMs + REQUEST_TIMEOUT_MS
    const watchdog = setInterval(() => {
      const silentMs = Date.now() - aliveAt
      if (silentMs > stalledMs) ended.reject(new Error(`the Kafka consumer stood still for ${silentMs} ms`))
    }, 1_000)
    joining = false
    held.clear()
    membership = { client, consumer, fail: ended.reject }
    let started: Promise<void> = Promise.resolve()
    try {
      started = consumer
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
              const entries = batch.messages.map((message) => ({
                offset: BigInt(message.offset),
                record: fromMessage(message, { lane, topic, partition }),
              }))
              const { fetchedOffset } = batch as typeof batch & { readonly fetchedOffset: string }
              const next = BigInt(batch.lastOffset()) + 1n
              const read = { partition, from: BigInt(fetchedOffset), next, entries }
              if (backlog.add(read) === 'refused') return
              resolveOffset(batch.lastOffset())
              pump()
              if (await until(() => backlog.waiting(partition) < full, FULL_WAIT_MS)) return
              held.add(partition)
              fetching('pause', consumer, partition)
            },
          }),
        )
      await Promise.race([started, ended.promise, halt.promise])
      await Promise.race([ended.promise, halt.promise])
    } finally {
      clearInterval(watchdog)
      membership = null
      joining = false
      backlog.assign([])
      notify()
      await leave(consumer, started)
      client.kill()
    }
  }

  async function leave(consumer: KafkaConsumer, started: Promise<void>): Promise<void> {
    try {
      // kafkajs cannot leave while it is joining, and the group would wait a session long for a member that went.
      const left = started.catch(() => undefined).then(() => consumer.disconnect())
      await within(left, LEAVE_TIMEOUT_MS, 'leaving the group')
    } catch (error) {
      // The group notices our absence by itself, a session later.
      onError(error)
    }
  }

  async function run(): Promise<void> {
    let pauseMs = PAUSE_MS_MIN
    while (!stopping) {
      const startedAt = Date.now()
      try {
        await takePart()
      } catch (error) {
        if (error !== STOPPED) onError(error)
      }
      // What held for a while is worth an early try.
      if (Date.now() - startedAt > sessionTimeoutMs) pauseMs = PAUSE_MS_MIN
      await until(() => stopping, pauseMs)
      pauseMs = Math.min(pauseMs * 2, RECONNECT_PAUSE_MS_MAX)
    }
  }

  async function stop(): Promise<void> {
    stopping = true
    notify()
    await until(() => inFlight === 0)
    void commit()
    await until(() => !committing, LAST_COMMIT_TIMEOUT_MS)
    halt.reject(STOPPED)
    await running
  }

  const running = run()
  let stopped: Promise<void> | null = null
  return {
    pause: () => {
      paused = true
    },
    resume: () => {
      paused = false
      pump()
    },
    stop: () => {
      stopped ??= stop()
      return stopped
    },
  }
}

const STOPPED = new Error('stopped')

/** kafkajs's own assigner, with `beforeJoin` put before what kafkajs does first in a join: to look for the coordinator. */
function withHook(beforeJoin: () => Promise<void>): PartitionAssigner {
  return (config) => {
    const { cluster } = config
    const find = cluster.findGroupCoordinator.bind(cluster)
    cluster.findGroupCoordinator = async (group) => {
      await beforeJoin()
      return find(group)
    }
    return kafkajs.PartitionAssigners.roundRobin(config)
  }
}

function isRebalance(error: unknown): boolean {
  const cause = original(error)
  return (
    typeof cause === 'object' &&
    cause !== null &&
    'type' in cause &&
    typeof cause.type === 'string' &&
    REBALANCE.includes(cause.type)
  )
}
