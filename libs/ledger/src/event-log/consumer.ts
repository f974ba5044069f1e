import { randomInt } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  type BatchHandler,
  type ConsumedRecord,
  type ConsumeOptions,
  type Consumer,
  EventLogUnavailableError,
  type LogLane,
  type Quarantined,
  SLOW_BATCHES_MAX,
} from '@curfew/domain'
import { createFloor, type Floor } from './floor.ts'
import { asEventLogError, type LogRow, type LogSession, openLogSession } from './session.ts'

export interface PostgresConsumerSettings {
  readonly url: string
  readonly partitions: number
  readonly heartbeatMs: number
  readonly sessionTimeoutMs: number
}

/** A partition that this connection has locked. */
interface Owned {
  readonly partition: number
  readonly floor: Floor
  /** Whether another consumer gets the partition as soon as no batch of it is being handled. */
  leaving: boolean
}

/** The state of one connection. */
interface Tenure {
  readonly session: LogSession
  readonly owned: Map<number, Owned>
  ended: boolean
  fetching: boolean
  /** Whether records may have arrived since the current fetch began. */
  again: boolean
}

const HANDLER_PAUSE_MS = { first: 100, max: 2_000 }
const RECONNECT_PAUSE_MS = { first: 100, max: 2_000 }
/** Longest time of a sweep. It may have to skip many dead rows, because vacuum cannot remove rows while a backup runs. */
const SWEEP_TIMEOUT_MS = 60_000

/** Consumes one lane on one dedicated connection until it is stopped. */
export function createPostgresConsumer(
  { url, partitions, heartbeatMs, sessionTimeoutMs }: PostgresConsumerSettings,
  { lane, batchSize, batchesInFlight, onError }: ConsumeOptions,
  handle: BatchHandler,
): Consumer {
  // Partitions whose batches are being handled. A handler may outlive the connection of its records, so that this set belongs to
  // the consumer. While a handler runs, its partitions are not handed out again.
  const handling = new Set<number>()
  // For a slow batch only its keys are withheld here. Its partitions stay locked against other consumers.
  const slowBatches = new Set<readonly LogRow[]>()
  const failures = new Map<number, { readonly count: number; readonly until: number }>()
  const stopping = new AbortController()
  let batches = 0
  let paused = false
  let current: Tenure | null = null
  let membersChanged = Promise.withResolvers<void>()
  let drained = Promise.withResolvers<void>()
  drained.resolve()

  async function run(): Promise<void> {
    for (let pauseMs = RECONNECT_PAUSE_MS.first; !stopping.signal.aborted; ) {
      const beganAt = Date.now()
      try {
        await live()
      } catch (error) {
        onError(asEventLogError(error))
      }
      // A connection that lasted was good. Its loss does not mean that the server stays unavailable.
      if (Date.now() - beganAt > sessionTimeoutMs) pauseMs = RECONNECT_PAUSE_MS.first
      await sleep(pauseMs, undefined, { signal: stopping.signal }).catch(ignore)
      pauseMs = Math.min(pauseMs * 2, RECONNECT_PAUSE_MS.max)
    }
    await drained.promise
  }

  /** Consumes over one connection. Rejects when the connection is lost, and resolves after a stop. */
  async function live(): Promise<void> {
    const session = await openLogSession({
      url,
      lane,
      sessionTimeoutMs,
      onRecords: () => {
        if (current !== null) fetchMore(current)
      },
      onMembers: () => membersChanged.resolve(),
    })
    const tenure: Tenure = { session, owned: new Map(), ended: false, fetching: false, again: false }
    current = tenure
    try {
      while (!stopping.signal.aborted) {
        membersChanged = Promise.withResolvers()
        await Promise.race([balance(tenure), session.lost])
        fetchMore(tenure)
        await heartbeat(session, membersChanged.promise)
      }
      // The locks are needed until the running batches are committed, so that the heartbeat continues.
      while (batches + slowBatches.size > 0) {
        await heartbeat(session, drained.promise)
        await session.beat()
      }
      await session.leave()
    } finally {
      current = null
      tenure.ended = true
      await session.end()
    }
  }

  /** Waits for the next heartbeat or for `event`. Rejects when the connection is lost. */
  async function heartbeat(session: LogSession, event: Promise<void>): Promise<void> {
    const timer = new AbortController()
    const beat = sleep(heartbeatMs, undefined, { signal: timer.signal }).catch(ignore)
    const stop = () => timer.abort()
    stopping.signal.addEventListener('abort', stop, { once: true })
    try {
      await Promise.race([beat, event, session.lost])
    } finally {
      stopping.signal.removeEventListener('abort', stop)
      timer.abort()
    }
  }

  /** Takes free partitions up to the fair share, and gives away the partitions above it. */
  async function balance(tenure: Tenure): Promise<void> {
    const { members, locked } = await tenure.session.readLocks()
    const share = Math.ceil(partitions / Math.max(members, 1))
    const staying = [...tenure.owned.values()].filter(({ leaving }) => !leaving)
    if (staying.length < share) {
      // Consumers that take free partitions at the same time should begin at different ones.
      const first = randomInt(partitions)
      const all = Array.from({ length: partitions }, (_, index) => (first + index) % partitions)
      const free = all.filter((partition) => !locked.has(partition)).slice(0, share - staying.length)
      const taken = free.length === 0 ? [] : await tenure.session.take(free)
      for (const partition of taken) {
        tenure.owned.set(partition, { partition, floor: createFloor(Date.now()), leaving: false })
      }
    } else if (staying.length > share) {
      const busy = ({ partition }: Owned) => Number(handling.has(partition))
      const idleFirst = staying.sort((a, b) => busy(a) - busy(b))
      for (const owned of idleFirst.slice(0, staying.length - share)) owned.leaving = true
    }
    await giveAway(tenure)
    for (const { floor } of tenure.owned.values()) floor.advance(Date.now())
  }

  async function giveAway({ session, owned }: Tenure): Promise<void> {
    const slow = new Set([...slowBatches].flat().map(({ partition }) => partition))
    const isIdle = (partition: number) => !handling.has(partition) && !slow.has(partition)
    const leaving = [...owned.values()].filter((one) => one.leaving && isIdle(one.partition))
    if (leaving.length === 0) return
    // Removes the partition before it is unlocked, so that records of a running fetch are dropped.
    for (const { partition } of leaving) owned.delete(partition)
    await session.give(leaving.map(({ partition }) => partition))
  }

  /** Hands out batches while there are records, free partitions and free batches in flight. Only one fetch runs at a time. */
  function fetchMore(tenure: Tenure): void {
    tenure.again = true
    if (tenure.fetching) return
    tenure.fetching = true
    fetchAll(tenure)
      .catch(tenure.session.fail)
      .finally(() => {
        tenure.fetching = false
      })
  }

  async function fetchAll(tenure: Tenure): Promise<void> {
    while (tenure.again && mayHandOut(tenure)) {
      tenure.again = false
      const available = findAvailable(tenure)
      if (available.length === 0) return
      const starts = available.map(({ partition, floor }) => ({ partition, floor: floor.start }))
      const sweeping = available.some(({ floor }) => floor.sweeping)
      const without = [...slowBatches].flat().map(({ key }) => key)
      const timeoutMs = sweeping ? SWEEP_TIMEOUT_MS : undefined
      const fetched = await tenure.session.fetch(starts, { without, limit: batchSize, timeoutMs })
      for (const { floor } of available) floor.fetched()
      if (!mayHandOut(tenure)) return
      const rows = fetched.filter(({ partition }) => tenure.owned.get(partition)?.leaving === false)
      if (rows.length === 0) continue
      tenure.again = true
      void handOut(tenure, rows)
    }
  }

  function mayHandOut(tenure: Tenure): boolean {
    return !tenure.ended && !paused && !stopping.signal.aborted && batches < batchesInFlight
  }

  function findAvailable({ owned }: Tenure): readonly Owned[] {
    const now = Date.now()
    const isFree = ({ partition, leaving }: Owned) => !leaving && !handling.has(partition)
    const isRested = ({ partition }: Owned) => (failures.get(partition)?.until ?? 0) <= now
    return [...owned.values()].filter((one) => isFree(one) && isRested(one))
  }

  async function handOut(tenure: Tenure, rows: readonly LogRow[]): Promise<void> {
    const touched = [...new Set(rows.map(({ partition }) => partition))]
    for (const partition of touched) handling.add(partition)
    if (batches + slowBatches.size === 0) drained = Promise.withResolvers()
    batches++
    const slow = () => {
      if (slowBatches.has(rows) || slowBatches.size >= SLOW_BATCHES_MAX) return
      slowBatches.add(rows)
      batches--
      for (const partition of touched) handling.delete(partition)
      if (current !== null) fetchMore(current)
    }
    try {
      const refused = await handle(
        rows.map((row) => toRecord(row, lane)),
        slow,
      )
      await commit(tenure, rows, refused)
      for (const partition of touched) failures.delete(partition)
    } catch (error) {
      onError(error)
      // The connection may have changed meanwhile.
      for (const [floor, positions] of byFloor(current, rows)) floor.failed(positions)
      rest(touched)
    } finally {
      if (!slowBatches.delete(rows)) {
        for (const partition of touched) handling.delete(partition)
        batches--
      }
      if (batches + slowBatches.size === 0) drained.resolve()
      if (current !== null) {
        giveAway(current).catch(current.session.fail)
        fetchMore(current)
      }
    }
  }

  async function commit(
    tenure: Tenure,
    rows: readonly LogRow[],
    refused: readonly Quarantined[],
  ): Promise<void> {
    if (tenure.ended)
      throw new EventLogUnavailableError(
        'the connection was lost before a batch was committed; its records are handled again',
      )
    try {
      await tenure.session.commit(rows, refused)
    } catch (error) {
      throw asEventLogError(error)
    }
    for (const [floor, positions] of byFloor(tenure, rows)) floor.committed(positions)
  }

  /** Pauses partitions after a failure. Then their records are fetched again, in order. */
  function rest(touched: readonly number[]): void {
    let longestMs = 0
    for (const partition of touched) {
      const count = (failures.get(partition)?.count ?? 0) + 1
      const waitMs = Math.min(HANDLER_PAUSE_MS.first * 2 ** (count - 1), HANDLER_PAUSE_MS.max)
      failures.set(partition, { count, until: Date.now() + waitMs })
      longestMs = Math.max(longestMs, waitMs)
    }
    setTimeout(() => {
      if (current !== null) fetchMore(current)
    }, longestMs + 1).unref()
  }

  const ran = run()
  return {
    pause() {
      paused = true
    },
    resume() {
      paused = false
      if (current !== null) fetchMore(current)
    },
    status() {
      if (stopping.signal.aborted) return { state: 'left' }
      return { state: current === null ? 'joining' : 'consuming' }
    },
    stop() {
      stopping.abort()
      return ran
    },
  }
}

/** Groups the positions of records by the floor of their partition, for partitions that are still owned. */
function* byFloor(tenure: Tenure | null, rows: readonly LogRow[]): Iterable<readonly [Floor, number[]]> {
  for (const [partition, ofPartition] of Map.groupBy(rows, (row) => row.partition)) {
    const floor = tenure?.owned.get(partition)?.floor
    if (floor !== undefined) yield [floor, ofPartition.map(({ position }) => position)]
  }
}

function toRecord(row: LogRow, lane: LogLane): ConsumedRecord {
  const position = `${row.partition}/${row.position}`
  return { lane, key: row.key, value: row.value, headers: row.headers, position }
}

function ignore(): undefined {
  return undefined
}
