import type { DeliveryId, WorkerId } from '@curfew/domain'
import type { DeliveryLedger, Standing } from '@curfew/ledger'
import { type Log, sleep } from '@curfew/runtime'

export interface WorkerDeps {
  readonly ledger: Pick<
    DeliveryLedger,
    'registerWorker' | 'beat' | 'reclaimLeases' | 'releaseUnheld' | 'retireWorker'
  >
  readonly log: Log
  /** Where this worker runs, for people. */
  readonly name: string
  readonly newWorkerId: () => WorkerId
  /** After so long a silence a worker is declared dead and loses its leases, in milliseconds. */
  readonly leaseMs: number
  /** Time that only goes forward, in milliseconds. */
  readonly monotonicMs: () => number
  /** Everything leased so far belongs to others now. */
  readonly onLost: () => void
  /** What is leased to this worker, as far as it knows. */
  readonly held: () => readonly DeliveryId[]
}

/** This process as the ledger knows it: the holder of leases, as long as its heart beats. */
export interface Worker {
  id(): WorkerId
  /** Whether the leases may still be trusted: the last beat that the ledger took is younger than a lease. */
  alive(): boolean
  /** How many workers there are, and which of them this is: what limits are shared by. */
  standing(): Pick<Standing, 'workers' | 'rank'>
  /**
   * To be called when a statement that leases, or settles, was sent and its outcome is not known: something may be
   * leased to this worker that it does not hold, and that nobody would ever attempt.
   */
  doubt(): void
  /** Makes the worker known, or says that it lives; under a new id if it was declared dead meanwhile. */
  register(): Promise<void>
  /** Keeps the heart beating, and declares dead those whose heart does not, until `ended` aborts. */
  beatUntil(ended: AbortSignal): Promise<void>
  /** Takes leave: what is still held is given back at once. @returns how much that was. */
  retire(): Promise<number>
}

const BEATS_PER_LEASE = 5
/** After a doubt PostgreSQL may still be at it for so long, whether we listen or not: its statement timeout, and some. */
const DOUBT_MS = 45_000

export function createWorker(deps: WorkerDeps): Worker {
  const { ledger, log, name, newWorkerId, leaseMs, monotonicMs, onLost, held } = deps
  let id = newWorkerId()
  let lastBeatMs: number | null = null
  let standing: Pick<Standing, 'workers' | 'rank'> = { workers: 1, rank: 0 }
  let doubtfulUntilMs = Number.NEGATIVE_INFINITY

  async function register(): Promise<void> {
    // Counted from before the call: a beat that was long on its way is as old as its start.
    const startedMs = monotonicMs()
    const found = lastBeatMs === null ? null : await ledger.beat(id)
    if (found?.alive === true) {
      standing = found
    } else {
      if (lastBeatMs !== null) {
        log.warn({ event: 'worker.lost', worker_id: id })
        id = newWorkerId()
        onLost()
      }
      await ledger.registerWorker({ id, name })
      standing = await ledger.beat(id)
    }
    lastBeatMs = startedMs
  }

  /** Gives back what nobody works at: what the dead held, and what this worker holds without knowing. */
  async function upkeep(): Promise<void> {
    const reclaimed = await ledger.reclaimLeases({ leaseMs })
    if (reclaimed > 0) log.warn({ event: 'leases.reclaimed', deliveries: reclaimed })
    if (monotonicMs() >= doubtfulUntilMs) return
    const released = await ledger.releaseUnheld({ workerId: id, held: held(), olderThanMs: leaseMs / 2 })
    if (released > 0) log.warn({ event: 'leases.unheld', deliveries: released })
  }

  async function attempt(work: () => Promise<void>): Promise<void> {
    try {
      await work()
    } catch (error) {
      log.warn({ event: 'worker.beat-failed', err: error })
    }
  }

  return {
    id: () => id,
    alive: () => lastBeatMs !== null && monotonicMs() - lastBeatMs < leaseMs,
    standing: () => standing,
    register,
    doubt() {
      doubtfulUntilMs = monotonicMs() + DOUBT_MS + leaseMs
    },
    retire: () => ledger.retireWorker(id),
    async beatUntil(ended) {
      let upkeeping: Promise<void> | null = null
      while (!ended.aborted) {
        await attempt(register)
        // Not waited for: however long it takes, the heart beats on.
        upkeeping ??= attempt(upkeep).finally(() => {
          upkeeping = null
        })
        await sleep(leaseMs / BEATS_PER_LEASE, ended)
      }
      await upkeeping
    },
  }
}
