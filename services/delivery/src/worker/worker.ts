import type { DeliveryId, WorkerId } from '@curfew/domain'
import type { Beat, DeliveryLedger, Lease } from '@curfew/ledger'
import { type Log, sleep } from '@curfew/runtime'
import type { BindingLimits } from '../dispatch/binding-limits.ts'
import type { Holdings } from '../dispatch/holdings.ts'
import { createLeaseBook, type LeaseBook } from './lease-book.ts'
import type { LedgerClock } from './ledger-clock.ts'

export interface WorkerDeps {
  readonly ledger: Pick<
    DeliveryLedger,
    'registerWorker' | 'beat' | 'reclaimLeases' | 'releaseUnheld' | 'retireWorker'
  >
  readonly log: Log
  /** Where this worker runs, for people. */
  readonly name: string
  readonly newWorkerId: () => WorkerId
  /** After so long a silence the worker is declared dead and loses its leases, in milliseconds. */
  readonly leaseMs: number
  /** Time that only goes forward, in milliseconds. */
  readonly monotonicMs: () => number
  /** Set by every heartbeat. */
  readonly clock: LedgerClock
  /** Shared among the workers as every heartbeat finds them. */
  readonly limits: Pick<BindingLimits, 'shareAmong'>
  /** What this process holds under leases. Cleared when they are lost: what has not been started is for others to attempt. */
  readonly holdings: Pick<Holdings, 'ids' | 'clear'>
}

/** This process as the ledger knows it: the holder of leases, as long as its heart beats. */
export interface Worker {
  id(): WorkerId
  /**
   * Whether this worker may attempt deliveries: the last heartbeat that the ledger took is younger than a lease, and the clocks
   * agree.
   */
  alive(): boolean
  /**
   * Whether this worker should plan what comes in: as `alive`, but a short lease does not count. Partitions take a session of the event
   * log to change hands, so a worker gives them away only if it has been silent for longer.
   */
  able(): boolean
  /**
   * Runs a statement that leases deliveries to this worker. `work` calls `took` with the deliveries of the answer before it
   * resolves: a lease that is not asked for and not held is given back at the next heartbeat.
   */
  leasing<Result>(work: (lease: Lease) => Promise<Result>): Promise<Result>
  /** Notes which deliveries a lease gave. The worker must hold them from this call on. */
  took(lease: Lease, ids: readonly DeliveryId[]): void
  /** Notes that the ledger has the end of these deliveries under a lease: settled, or given back. */
  ended(lease: Lease, ids: readonly DeliveryId[]): void
  /** Makes the worker known, or says that it lives; under a new id if it was declared dead meanwhile. */
  register(): Promise<void>
  /** Keeps the heart beating, and declares dead those whose heart does not, until `ended` aborts. */
  beatUntil(ended: AbortSignal): Promise<void>
  /** Takes leave: what is still held is given back at once. @returns how much that was. */
  retire(): Promise<number>
}

const BEATS_PER_LEASE = 5
/** As long as a session of the event log is by default, in milliseconds. */
const SILENT_MS_MIN = 6_000

/** What the ledger was asked to lease. */
interface Leases {
  /** The number of the last. */
  last: number
  /** Those of which the answer has not come. */
  readonly asking: Set<number>
  readonly book: LeaseBook
}

export function createWorker(deps: WorkerDeps): Worker {
  const { ledger, log, name, newWorkerId, leaseMs, monotonicMs, clock, limits, holdings } = deps
  let id = newWorkerId()
  let lastBeatMs: number | null = null
  const leases: Leases = { last: 0, asking: new Set(), book: createLeaseBook() }

  async function register(): Promise<void> {
    // Counted from before the call: a heartbeat that was long on its way is as old as its start.
    const startedMs = monotonicMs()
    const found = lastBeatMs === null ? null : await beat(deps, id)
    if (found?.alive === true) {
      limits.shareAmong(found)
    } else {
      if (lastBeatMs !== null) {
        log.warn({ event: 'worker.lost', worker_id: id })
        id = newWorkerId()
        leases.book.clear()
        holdings.clear()
      }
      await ledger.registerWorker({ id, name })
      limits.shareAmong(await beat(deps, id))
    }
    lastBeatMs = startedMs
  }

  const heardWithin = (ms: number) => lastBeatMs !== null && monotonicMs() - lastBeatMs < ms

  return {
    id: () => id,
    alive: () => heardWithin(leaseMs) && clock.agrees(),
    able: () => heardWithin(Math.max(leaseMs, SILENT_MS_MIN)) && clock.agrees(),
    async leasing(work) {
      leases.last += 1
      const lease = { workerId: id, number: leases.last }
      leases.asking.add(lease.number)
      try {
        return await work(lease)
      } finally {
        leases.asking.delete(lease.number)
      }
    },
    took: ({ workerId, number }, ids) => {
      if (workerId === id) leases.book.took(number, ids)
    },
    ended: ({ workerId, number }, ids) => {
      if (workerId === id) leases.book.ended(number, ids)
    },
    register,
    retire: () => ledger.retireWorker(id),
    async beatUntil(ended) {
      let upkeeping: Promise<void> | null = null
      while (!ended.aborted) {
        await attempt(register, log)
        // Not waited for: however long it takes, the heart beats on.
        upkeeping ??= attempt(() => upkeep(deps, () => id, leases), log).finally(() => {
          upkeeping = null
        })
        await sleep(leaseMs / BEATS_PER_LEASE, ended)
      }
      await upkeeping
    },
  }
}

async function attempt(work: () => Promise<void>, log: Log): Promise<void> {
  try {
    await work()
  } catch (error) {
    log.warn({ event: 'worker.beat-failed', err: error })
  }
}

async function beat(deps: WorkerDeps, id: WorkerId): Promise<Beat> {
  const { clock, holdings } = deps
  const said = clock.agrees()
  const found = await sendBeat(deps, id, said)
  if (clock.agrees() === said) return found
  // It is the answer that says so. Others share the limits by it from their next heartbeat on, not from the one after.
  if (said) holdings.clear()
  return sendBeat(deps, id, !said)
}

async function sendBeat(
  { ledger, clock, monotonicMs }: WorkerDeps,
  id: WorkerId,
  working: boolean,
): Promise<Beat> {
  const sentMs = monotonicMs()
  const found = await ledger.beat(id, { working })
  clock.set(found.now, { sentMs, receivedMs: monotonicMs() })
  return found
}

/**
 * Gives back what no worker attends to: the leases of the dead, and what is leased to this worker without its knowing, for an
 * answer may have been lost at any time.
 */
async function upkeep(
  { ledger, holdings, leaseMs, log }: WorkerDeps,
  currentId: () => WorkerId,
  leases: Leases,
): Promise<void> {
  const { asking, book } = leases
  const reclaimed = await ledger.reclaimLeases({ leaseMs })
  if (reclaimed > 0) log.warn({ event: 'leases.reclaimed', deliveries: reclaimed })
  const { ended, held: known, others } = book.look(holdings.ids())
  const released = await ledger.releaseUnheld({
    workerId: currentId(),
    asking: [...asking, ...known],
    held: others,
    ended,
    upTo: leases.last,
  })
  book.deleted(ended)
  if (released > 0) log.warn({ event: 'leases.unheld', deliveries: released })
}
