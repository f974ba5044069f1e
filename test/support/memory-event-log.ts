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

/** What can be made to go wrong. Each hook may wait or throw; a throw is what the broker's failure would be. */
export interface MemoryLogFaults {
  /** `lost` is before anything was stored, `unconfirmed` after. */
  append?: (moment: 'lost' | 'unconfirmed') => void | Promise<void>
  commit?: (moment: 'lost' | 'unconfirmed') => void | Promise<void>
}

export interface MemoryLogOptions {
  readonly partitions?: number
  /** The clock's: a simulation brings its own. */
  readonly sleep?: (ms: number) => Promise<void>
}

/** One process's view of the log. */
export interface MemoryEventLog extends EventLog {
  /** What SIGKILL does: its consumers are gone, and whatever their handlers still come to is never committed. */
  kill(): void
}

/** An event log in memory, shared by all that are opened from it. */
export interface MemoryLog {
  /** To be changed at any time. */
  readonly faults: MemoryLogFaults
  readonly quarantined: readonly Quarantined[]
  /** Records not committed yet. */
  depth(lane: LogLane): number
  /** The same, by lane and partition. */
  records(lane: LogLane): readonly ConsumedRecord[]
  /** While it is away appends reject, nothing is handed out and nothing is committed. */
  setAway(away: boolean): void
  open(): MemoryEventLog
}

interface Partition {
  readonly records: ConsumedRecord[]
  busy: boolean
  restsUntilTold: boolean
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
    Array.from({ length: partitions }, (): Partition => ({ records: [], busy: false, restsUntilTold: false }))
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

  function failWhileAway(): void {
    if (away) throw new EventLogUnavailableError('the memory event log is away')
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

      /** From the partitions that are this member's by its place among all, and of which nothing is being handled anywhere. */
      function takeBatch(): Partition[] {
        const peers = membersOf(lane)
        const place = peers.indexOf(member)
        let room = batchSize
        return lanes[lane].filter((partition, index) => {
          const mine = index % peers.length === place && !partition.busy && !partition.restsUntilTold
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
          // A slow batch keeps its partitions here: this log is fast, and its consumers few.
          const refused = await handle(batch, () => undefined)
          if (killed) return
          failWhileAway()
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
        for (const partition of touched) partition.restsUntilTold = true
        void sleep(RETRY_PAUSE_MS).then(() => {
          for (const partition of touched) partition.restsUntilTold = false
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
        failWhileAway()
        await faults.append?.('lost')
        failWhileAway()
        for (const record of records) {
          const partition = partitionOf(record.lane, record.key)
          partition.records.push({ ...record, position: String(++position) })
        }
        wake()
        await faults.append?.('unconfirmed')
      },
      consume,
      async check() {
        failWhileAway()
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
