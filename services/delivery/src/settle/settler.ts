import { type DeliveryId, LedgerUnavailableError, type WorkerId } from '@curfew/domain'
import type { DeliveryLedger, Settled } from '@curfew/ledger'
import { createBatcher, type Log, sleep } from '@curfew/runtime'
import type { Announcer } from './announcer.ts'

/** What was leased to one incarnation of the worker, and what it did. */
interface Claimed {
  readonly workerId: WorkerId
  readonly settled: Settled
}

export interface Settler {
  /** Resolves when it is in the ledger: true, or false when the lease was lost and nothing was recorded. */
  settle(workerId: WorkerId, settled: Settled): Promise<boolean>
  drain(): Promise<void>
}

export interface SettlerDeps {
  readonly ledger: Pick<DeliveryLedger, 'settleDeliveries' | 'supersedeOlder'>
  readonly announcer: Pick<Announcer, 'announce'>
  readonly log: Log
  readonly now: () => Date
  /** Ends the waiting for a ledger that is away. */
  readonly abandoning: AbortSignal
}

const BATCH = 500
/** Most outcomes that wait for the ledger. A worker holds fewer deliveries. */
const QUEUE_MAX = 20_000
const PAUSE_MS_MAX = 2_000

/**
 * Writes outcomes to the ledger, those that arrive together in one statement. While the ledger is away they wait here: an
 * acknowledgement that an RP gave is not asked for twice as long as the lease holds.
 */
export function createSettler({ ledger, announcer, log, now, abandoning }: SettlerDeps): Settler {
  async function write(workerId: WorkerId, batch: readonly Settled[]): Promise<ReadonlySet<DeliveryId>> {
    for (let pauseMs = 100; ; pauseMs = Math.min(pauseMs * 2, PAUSE_MS_MAX)) {
      try {
        return await ledger.settleDeliveries({ batch, workerId, now: now() })
      } catch (error) {
        if (!(error instanceof LedgerUnavailableError) || abandoning.aborted) throw error
        log.warn({ event: 'ledger.away', waiting: batch.length, err: error })
        await sleep(pauseMs, abandoning)
      }
    }
  }

  /** What waits now may be covered by a newer logout, planned while it was attempted. If not, one is told twice: no harm. */
  async function supersede(batch: readonly Settled[]): Promise<void> {
    const ids = batch.filter(({ settlement }) => settlement.state === 'pending').map(({ id }) => id)
    if (ids.length === 0) return
    try {
      await ledger.supersedeOlder({ ids, now: now() })
    } catch (error) {
      log.warn({ event: 'deliveries.supersede-failed', deliveries: ids.length, err: error })
    }
  }

  const batcher = createBatcher<Claimed, boolean>({
    batchSize: BATCH,
    queueMax: QUEUE_MAX,
    // One at a time: while it is committed the next is gathered, and a large batch costs little more than a small one.
    concurrency: 1,
    async run(items) {
      const ids = new Set(items.map(({ workerId }) => workerId))
      const lost = new Map<WorkerId, ReadonlySet<DeliveryId>>()
      for (const id of ids) {
        const batch = items.filter(({ workerId }) => workerId === id).map(({ settled }) => settled)
        lost.set(id, await write(id, batch))
        // Those too of which it says that they were not settled now: they may have been by a try of which the answer was lost.
        const ended = batch.filter(({ settlement }) => settlement.state !== 'pending')
        announcer.announce(ended.map((settled) => settled.id))
      }
      await supersede(items.map(({ settled }) => settled))
      return items.map(({ workerId, settled }) => lost.get(workerId)?.has(settled.id) === false)
    },
  })

  return {
    settle: (workerId, settled) => batcher.add({ workerId, settled }),
    drain: () => batcher.drain(),
  }
}
