import { setTimeout as timer } from 'node:timers/promises'
import {
  type BatchHandler,
  type ConsumedRecord,
  type ConsumeOptions,
  type Consumer,
  type EventLog,
  EventLogUnavailableError,
  type LogLane,
  type Quarantined,
} from '@curfew/domain'

/** Hooks that make the log fail. Each may wait or throw; a throw acts as a failure of the broker. */
export interface MemoryLogFaults {
  /** Called with `lost` before the records are stored, and with `unconfirmed` afterwards. */
  append?: (moment: 'lost' | 'unconfirmed') => void | Promise<void>
  commit?: (moment: 'lost' | 'unconfirmed') => void | Promise<void>
}

export interface MemoryLogOptions {
  readonly partitions?: number
  /** Waits by the clock of the test. A simulation passes its own. */
  readonly sleep?: (ms: number) => Promise<void>
}

/** One process's view of the log. */
export interface MemoryEventLog extends EventLog {
  /** Simulates SIGKILL: the consumers are gone, and results of their handlers are never committed. */
  kill(): void
}

/** An event log in memory, shared by all views opened from it. */
export interface MemoryLog {
  /** A test may change them at any time. */
  readonly faults: MemoryLogFaults
  readonly quarantined: readonly Quarantined[]
  /** The number of uncommitted records. */
  depth(lane: LogLane): number
  /** The uncommitted records, by partition. */
  records(lane: LogLane): readonly ConsumedRecord[]
  /** While the log is unavailable, appends reject, and no records are given out or committed. */
  setAway(away: boolean): void
  open(): MemoryEventLog
}

interface Partition {
  readonly records: ConsumedRecord[]
  busy: boolean
  isResting: boolean
}
interface Member {
  readonly lane: LogLane
  leaving: boolean
  work(): void
}

const RETRY_PAUSE_MS = 100

export function createMemoryLog({
  partitions = 8,
  sleep = (ms) => timer(ms),
}: MemoryLogOptions = {}): MemoryLog {
  const makeLane = () =>
    Array.from({ length: partitions }, (): Partition => ({ records: [], busy: false, isResting: false }))
  const lanes: Record<LogLane, readonly Partition[]> = {
    interactive: makeLane(),
    bulk: makeLane(),
    sessions: makeLane(),
  }
  const members = new Set<Member>()
  const faults: MemoryLogFaults = {}
  const quarantined: Quarantined[] = []
  let away = false
  let position = 0

  const wake = () => {
    for (const member of members) member.work()
  }
  const membersOf = (lane: LogLane) =>
    [...members].filter((member) => member.lane === lane && !member.leaving)

  function partitionOf(lane: LogLane, key: string): Partition {
    let sum = 0
    for (const byte of Buffer.from(key)) sum = (sum * 31 + byte) >>> 0
    const partition = lanes[lane][sum % partitions]
    if (partition === undefined) throw new Error('a log has at least one partition')
    return partition
  }

  function failIfUnavailable(): void {
    if (away) throw new EventLogUnavailableError('the memory event log is unavailable')
  }

  function open(): MemoryEventLog {
    const own = new Set<Member>()
    const holding = new Set<Partition>()
    let killed = false

    function release(partitions: Iterable<Partition>): void {
      for (const partition of [...partitions]) {
        partition.busy = false
        holding.delete(partition)
      }
    }

    function consume(
      { lane, batchSize, batchesInFlight, onError }: ConsumeOptions,
      handle: BatchHandler,
    ): Consumer {
      let batches = 0
      let paused = false
      let stopped: PromiseWithResolvers<void> | null = null
      const member: Member = { lane, leaving: false, work }

      function work(): void {
        while (!killed && !paused && !away && stopped === null && batches < batchesInFlight) {
          const batch = takeBatch()
          if (batch.length === 0) return
          void handOut(batch)
        }
      }

      /** Partitions that belong to this member by its index among the members, and have no batch under way. */
      function takeBatch(): Partition[] {
        const peers = membersOf(lane)
        const place = peers.indexOf(member)
        let room = batchSize
        return lanes[lane].filter((partition, index) => {
          const mine = index % peers.length === place && !partition.busy && !partition.isResting
          if (!mine || partition.records.length === 0 || room <= 0) return false
          room -= partition.records.length
          return true
        })
      }

      async function handOut(touched: readonly Partition[]): Promise<void> {
        const shares = touched.map((partition) => ({ partition, count: partition.records.length }))
        const over = shares.reduce((sum, { count }) => sum + count, 0) - batchSize
        const last = shares.at(-1)
        if (last !== undefined && over > 0) last.count -= over
        const batch = shares.flatMap(({ partition, count }) => partition.records.slice(0, count))
        for (const partition of touched) {
          partition.busy = true
          holding.add(partition)
        }
        batches++
        try {
          // A slow batch keeps its partitions: this log is fast, and has few consumers.
          const refused = await handle(batch, () => undefined)
          if (killed) return
          failIfUnavailable()
          await faults.commit?.('lost')
          quarantined.push(...refused)
          for (const { partition, count } of shares) partition.records.splice(0, count)
          await faults.commit?.('unconfirmed')
        } catch (error) {
          if (killed) return
          onError(error)
          rest(touched)
        } finally {
          batches--
          if (!killed) release(touched)
          if (batches === 0) stopped?.resolve()
          wake()
        }
      }

      function rest(touched: readonly Partition[]): void {
        for (const partition of touched) partition.isResting = true
        void sleep(RETRY_PAUSE_MS).then(() => {
          for (const partition of touched) partition.isResting = false
          wake()
        })
      }

      members.add(member)
      own.add(member)
      queueMicrotask(wake)
      return {
        pause() {
          paused = true
        },
        resume() {
          paused = false
          work()
        },
        status: () => ({ state: stopped === null && !killed ? 'consuming' : 'left' }),
        async stop() {
          if (stopped === null) {
            stopped = Promise.withResolvers()
            member.leaving = true
            if (batches === 0 || killed) stopped.resolve()
            await stopped.promise
            members.delete(member)
            own.delete(member)
            wake()
          }
          await stopped.promise
        },
      }
    }

    return {
      async append(records) {
        failIfUnavailable()
        await faults.append?.('lost')
        failIfUnavailable()
        for (const record of records) {
          const partition = partitionOf(record.lane, record.key)
          partition.records.push({ ...record, position: String(++position) })
        }
        wake()
        await faults.append?.('unconfirmed')
      },
      consume,
      async check() {
        failIfUnavailable()
      },
      async close() {
        await Promise.resolve()
      },
      kill() {
        killed = true
        for (const member of own) members.delete(member)
        release(holding)
        wake()
      },
    }
  }

  return {
    faults,
    quarantined,
    depth: (lane) => lanes[lane].reduce((sum, { records }) => sum + records.length, 0),
    records: (lane) => lanes[lane].flatMap(({ records }) => records),
    setAway(value) {
      away = value
      if (!away) wake()
    },
    open,
  }
}
