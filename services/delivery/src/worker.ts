import type { WorkerId } from '@curfew/domain'
import { beat, type Database, reclaimLeases, registerWorker, retireWorker } from '@curfew/ledger'
import { type Log, sleep } from '@curfew/runtime'

export interface WorkerDeps {
  readonly db: Database
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
}

/** This process as the ledger knows it: the holder of leases, as long as its heart beats. */
export interface Worker {
  id(): WorkerId
  /** Whether the leases may still be trusted: the last beat that the ledger took is younger than a lease. */
  alive(): boolean
  /** Makes the worker known, or says that it lives; under a new id if it was declared dead meanwhile. */
  register(): Promise<void>
  /** Keeps the heart beating, and declares dead those whose heart does not, until `ended` aborts. */
  beatUntil(ended: AbortSignal): Promise<void>
  /** Takes leave: what is still held is given back at once. @returns how much that was. */
  retire(): Promise<number>
}

const BEATS_PER_LEASE = 5

export function createWorker(deps: WorkerDeps): Worker {
  const { db, log, name, newWorkerId, leaseMs, monotonicMs, onLost } = deps
  let id = newWorkerId()
  let lastBeatMs: number | null = null

  async function register(): Promise<void> {
    // Counted from before the call: a beat that was long on its way is as old as its start.
    const startedMs = monotonicMs()
    if (lastBeatMs === null || !(await beat(db, id))) {
      if (lastBeatMs !== null) {
        log.warn({ event: 'worker.lost', worker_id: id })
        id = newWorkerId()
        onLost()
      }
      await registerWorker(db, { id, name })
    }
    lastBeatMs = startedMs
  }

  return {
    id: () => id,
    alive: () => lastBeatMs !== null && monotonicMs() - lastBeatMs < leaseMs,
    register,
    retire: () => retireWorker(db, id),
    async beatUntil(ended) {
      while (!ended.aborted) {
        try {
          await register()
          const reclaimed = await reclaimLeases(db, { leaseMs })
          if (reclaimed > 0) log.warn({ event: 'leases.reclaimed', deliveries: reclaimed })
        } catch (error) {
          log.warn({ event: 'worker.beat-failed', err: error })
        }
        await sleep(leaseMs / BEATS_PER_LEASE, ended)
      }
    },
  }
}
