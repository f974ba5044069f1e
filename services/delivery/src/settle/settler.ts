import { type DeliveryId, LedgerUnavailableError, type WorkerId } from '@curfew/domain'
import type { DeliveryLedger, Settled } from '@curfew/ledger'
import { createBatcher, type Log, sleep } from '@curfew/runtime'
import type { Announcer } from './announcer.ts'

/** A settled delivery, and the worker id that its lease was given to. */
interface Claimed {
  readonly workerId: WorkerId
  readonly settled: Settled
}

export interface Settler {
  /** Resolves when the ledger has answered: true if it stored the outcome, false if the lease was lost and nothing was stored. */
  settle(workerId: WorkerId, settled: Settled): Promise<boolean>
  /** Resolves when all outcomes given so far are written. */
  drain(): Promise<void>
}

export interface SettlerDeps {
  readonly ledger: Pick<DeliveryLedger, 'settleDeliveries' | 'supersedeOlder'>
  readonly announcer: Pick<Announcer, 'announce'>
  readonly log: Log
  readonly now: () => Date
  /** Aborts the wait for an unavailable ledger. */
  readonly abandoning: AbortSignal
}

const BATCH = 500
/** The most outcomes that wait for the ledger. A worker holds fewer deliveries. */
const QUEUE_MAX = 20_000
const PAUSE_MS_MAX = 2_000

/**
 * Writes outcomes to the ledger; those that arrive together share a statement. Outcomes wait here while the ledger is
 * unavailable. An RP that acknowledged is therefore not notified again while the lease holds.
 */
export function createSettler({ ledger, announcer, log, now, abandoning }: SettlerDeps): Settler {
  async function write(workerId: WorkerId, batch: readonly Settled[]): Promise<ReadonlySet<DeliveryId>> {
    for (let pauseMs = 100; ; pauseMs = Math.min(pauseMs * 2, PAUSE_MS_MAX)) {
      try {
        return await ledger.settleDeliveries({ batch, workerId, now: now() })
      } catch (error) {
        if (!(error instanceof LedgerUnavailableError) || abandoning.aborted) throw error
        log.warn({ event: 'ledger.unavailable', waiting: batch.length, err: error })
        await sleep(pauseMs, abandoning)
      }
    }
  }

  /**
   * Supersedes pending deliveries that a newer logout covers, planned during their attempt. If this fails, the RP is notified
   * twice, which does no harm.
   */
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
    // One batch at a time: the next fills while this one commits, and a large batch costs little more than a small one.
    concurrency: 1,
    async run(items) {
      const ids = new Set(items.map(({ workerId }) => workerId))
      const lost = new Map<WorkerId, ReadonlySet<DeliveryId>>()
      for (const id of ids) {
        const batch = items.filter(({ workerId }) => workerId === id).map(({ settled }) => settled)
        lost.set(id, await write(id, batch))
        // Includes deliveries that this statement did not settle: an earlier try may have settled them and lost its answer.
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
