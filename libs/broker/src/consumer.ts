import type {
  BatchHandler,
  ConsumeOptions,
  Consumer,
  ConsumerStatus,
  OwnLedger,
  Quarantine,
} from '@curfew/domain'
import { type Batch, createBacklog, type DueCommit, type Read } from './backlog.ts'
import type { ConnectionOptions } from './client.ts'
import { failureType, isForbidden, isRebalance } from './failures.ts'
import { createLeaderless } from './leaderless.ts'
import { type Membership, openMembership } from './membership.ts'
import { createPlacing, type Placing } from './placing.ts'

export interface LaneConsumerOptions extends ConsumeOptions {
  readonly connection: ConnectionOptions
  readonly topic: string
  /** Each topic needs its own group: kafkajs assigns the leader's topics to every member, whatever it subscribed to. */
  readonly groupId: string
  /** After this silence the group assigns a member's partitions to others, in milliseconds. */
  readonly sessionTimeoutMs: number
  /** Resolves when the topics exist. */
  readonly ready: () => Promise<void>
  /** Makes the next `ready` check the topics again. Called when Kafka does not know the topic. */
  readonly lookAgain?: () => void
  readonly quarantine: Quarantine
  /** The ledger that handles the records. Default: commits name no ledger. */
  readonly ledger?: (() => Promise<OwnLedger | null>) | undefined
}

/** How long a full partition blocks the fetch loop before it is paused. Undoing a pause costs up to one fetch wait. */
const FULL_WAIT_MS = 100
const PAUSE_MS_MIN = 100
const PAUSE_MS_MAX = 5_000
const RECONNECT_PAUSE_MS_MAX = 2_000
/** Pause between two checks whether this process can work. */
const ABLE_PAUSE_MS = 500
/** Pause before an unreadable partition is fetched again. */
const UNREADABLE_PAUSE_MS = 5_000
/** How long `stop` tries to commit when the broker does not answer. Uncommitted records are handled again. */
const LAST_COMMIT_TIMEOUT_MS = 10_000

/**
 * Consumes one lane. kafkajs only reads: its loop fills the backlog and never waits for a handler. Heartbeats and rebalances
 * therefore continue while a handler is slow. Handling, retries, commits and the start of reading are done here.
 */
export function createLaneConsumer(options: LaneConsumerOptions, handle: BatchHandler): Consumer {
  const { lane, topic, batchSize, batchesInFlight, sessionTimeoutMs, onError } = options
  const { able = () => true, onFault = async () => undefined } = options
  const backlog = createBacklog()
  const full = batchSize * 2
  /** Partitions that kafkajs does not fetch from, because the backlog is full, and since when. */
  const held = new Map<number, number>()
  const unreadable = new Map<number, Error>()
  const leaderless = createLeaderless(topic)
  /** The partitions that the group assigned to us. */
  let own: readonly number[] = []
  let membership: Membership | null = null
  let ledger: OwnLedger | null = null
  let placing: Placing | null = null
  let paused = false
  let state: Exclude<ConsumerStatus['state'], 'unreadable'> = 'joining'
  /** The reason Kafka does not let us join. */
  let forbidden: Error | null = null
  let joining = false
  let stopping = false
  let inFlight = 0
  let handling = 0
  let committing = false
  let changed = Promise.withResolvers<void>()
  const halt = Promise.withResolvers<never>()
  // The promise may reject while it has no listener.
  halt.promise.catch(() => undefined)

  function notify(): void {
    changed.resolve()
    changed = Promise.withResolvers()
  }

  /** Waits for `condition`, checked after every change, for `timeoutMs` at most. Returns whether it holds. */
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

  async function work(batch: Batch): Promise<void> {
    let pauseMs = PAUSE_MS_MIN
    while (await until(() => stopping || mayHandOut())) {
      const records = backlog.records(batch)
      // Empty after a rejoin: unhandled records wait until their partitions are placed.
      if (stopping || records.length === 0) break
      handling++
      try {
        // A single offset says how far a partition has been handled, so a slow batch keeps its partitions.
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

  /** Commits the handled records of all partitions, one request at a time, until none are due. */
  async function commit(): Promise<void> {
    if (committing) return
    committing = true
    let due: readonly DueCommit[] = backlog.dueCommits()
    for (; due.length > 0 && membership !== null; due = backlog.dueCommits()) {
      const by = membership
      try {
        await by.commit(due, ledger)
        if (by === membership) backlog.committed(due)
      } catch (error) {
        // During a rebalance the commit waits. The new generation commits the partitions that are still ours.
        if (!isRebalance(error)) onError(error)
        await until(() => by !== membership, PAUSE_MS_MIN)
      }
    }
    committing = false
    notify()
  }

  /** Resumes the fetches from partitions that have room. */
  function letGo(): void {
    for (const [partition, sinceMs] of held) {
      if (membership === null || placing?.isMoving(partition) !== false) continue
      if (unreadable.has(partition) || backlog.waiting(partition) > batchSize / 2) continue
      held.delete(partition)
      if (performance.now() - sinceMs > sessionTimeoutMs) {
        // During a long pause the topic may have been deleted, created again, and have grown beyond our position.
        backlog.recheck(partition)
        placing.reread(partition)
      }
      membership.resume(partition)
    }
  }

  function hold(partition: number): void {
    held.set(partition, performance.now())
    membership?.pause(partition)
  }

  /**
   * Called before every join. kafkajs has no hook for "partitions are about to be revoked" and joins at once. We finish and
   * commit the batches under way first, so that a rebalance repeats nothing. We wait for half a session at most, because there
   * are no heartbeats meanwhile. A batch that takes longer may be handled twice.
   */
  async function beforeJoin(): Promise<void> {
    joining = true
    const deadlineMs = sessionTimeoutMs / 2
    await until(() => handling === 0, deadlineMs)
    void commit()
    await until(() => !committing, deadlineMs / 2)
  }

  function joined(partitions: readonly number[]): void {
    own = partitions
    backlog.assign(partitions)
    held.clear()
    unreadable.clear()
    forbidden = null
    placing?.assigned(partitions)
    joining = false
    state = 'consuming'
    pump()
  }

  async function fetched(read: Read, take: () => void): Promise<void> {
    const { partition } = read
    const added = backlog.add(read)
    if (added === 'again') placing?.reread(partition)
    else if (added === 'other') placing?.changed(partition)
    if (added !== 'taken') return
    take()
    pump()
    if (await until(() => backlog.waiting(partition) < full, FULL_WAIT_MS)) return
    hold(partition)
  }

  function leaveOut(partition: number, error: Error): void {
    const by = membership
    const where = new Error(`${topic}/${partition}: ${error.message}`, { cause: error })
    unreadable.set(partition, where)
    onError(where)
    hold(partition)
    const timer = setTimeout(() => {
      if (by !== membership || by === null || !held.delete(partition)) return
      // The partition counts as unreadable until a fetch succeeds.
      by.resume(partition)
    }, UNREADABLE_PAUSE_MS)
    timer.unref()
  }

  /** Stays in the group until it fails, the consumer stops, or this process cannot work. */
  async function takePart(): Promise<void> {
    await Promise.race([options.ready(), halt.promise])
    joining = false
    held.clear()
    // kafkajs may continue its current work for a while after the membership ended.
    const ended = () => membership !== current
    const current: Membership = openMembership(options, {
      beforeJoin: async () => {
        if (!ended()) await beforeJoin()
      },
      joined: (partitions) => {
        if (!ended()) joined(partitions)
      },
      fetched: async (read, take) => {
        if (!ended()) await fetched(read, take)
      },
      leaderless: (partitions) => {
        leaderless.looked(partitions)
        const error = leaderless.errorOf(own)
        if (error !== null && !ended()) onError(error)
      },
      outOfRange: (partition) => {
        if (!ended()) placing?.outOfRange(partition)
      },
      unreadable: (partition, error) => {
        if (!ended()) leaveOut(partition, error)
      },
      atEnd: (partition, offset) => {
        if (!ended() && backlog.awaits(partition, offset)) placing?.missing(partition, offset)
      },
      read: (partitions) => {
        if (unreadable.size > 0) for (const partition of partitions) unreadable.delete(partition)
      },
    })
    membership = current
    placing = createPlacing({
      ...{ lane, topic, backlog, membership: current, onFault, onError, ended },
      pause: async () => void (await until(ended, PAUSE_MS_MAX / 5)),
      readLedger: async () => {
        ledger = (await options.ledger?.()) ?? null
        return ledger
      },
      onForeign: (partition, error) => {
        if (!unreadable.has(partition)) onError(error)
        unreadable.set(partition, error)
      },
      onPlaced: (partition) => {
        unreadable.delete(partition)
        held.set(partition, performance.now())
        void commit()
        pump()
      },
    })
    const watch = setInterval(() => {
      if (!able()) current.fail(UNABLE)
    }, ABLE_PAUSE_MS)
    try {
      await Promise.race([current.ended, halt.promise])
    } finally {
      clearInterval(watch)
      membership = null
      placing = null
      joining = false
      state = able() ? 'joining' : 'left'
      own = []
      backlog.leave()
      notify()
      await current.leave().catch(onError)
    }
  }

  async function run(): Promise<void> {
    let pauseMs = PAUSE_MS_MIN
    while (!stopping) {
      state = able() ? 'joining' : 'left'
      if (state === 'left') {
        await until(() => stopping, ABLE_PAUSE_MS)
        continue
      }
      const startedAt = performance.now()
      try {
        await takePart()
      } catch (error) {
        if (error !== STOPPED) onError(error)
        if (failureType(error) === 'UNKNOWN_TOPIC_OR_PARTITION') options.lookAgain?.()
        if (isForbidden(error)) forbidden = error
      }
      // After a membership that lasted, the first retry is early.
      if (performance.now() - startedAt > sessionTimeoutMs) pauseMs = PAUSE_MS_MIN
      await until(() => stopping, pauseMs)
      pauseMs = Math.min(pauseMs * 2, RECONNECT_PAUSE_MS_MAX)
    }
    state = 'left'
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
    status: () => {
      const [error = leaderless.errorOf(own) ?? forbidden] = unreadable.values()
      return error === null || stopping || state === 'left' ? { state } : { state: 'unreadable', error }
    },
    stop: () => {
      stopped ??= stop()
      return stopped
    },
  }
}

const STOPPED = new Error('stopped')
const UNABLE = new Error(
  'this process cannot work: it leaves its partitions to the other consumers of the group',
)
