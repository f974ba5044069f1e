import { type BindingId, shareOf } from '@curfew/domain'
import type { WorkerMembership } from '@curfew/ledger'
import type { RegistryCache } from '../intake/registry-cache.ts'
import type { Limits } from './binding-queue.ts'

/** The default for the concurrent POSTs of one worker to a binding whose owner has set no limit. */
const DEFAULT_CONCURRENCY = 16

/** The limits of bindings for this worker: its share of what every binding allows. */
export interface BindingLimits {
  of(id: BindingId): Limits
  /** Bindings whose concurrency limit is smaller than the number of workers, and leaves none to this worker. */
  barred(): Iterable<BindingId>
  /**
   * Shares the limits by the result of a heartbeat: the number of workers that may attempt deliveries, and the rank of this one.
   */
  shareAmong(membership: Pick<WorkerMembership, 'workers' | 'rank'>): void
}

export function createBindingLimits(registry: Pick<RegistryCache, 'current'>): BindingLimits {
  let membership: Pick<WorkerMembership, 'workers' | 'rank'> = { workers: 1, rank: 0 }
  return {
    of(id) {
      const { concurrency = null, ratePerSecond = null } = registry.current().bindings.get(id) ?? {}
      // Only workers with a share of the concurrency share the rate.
      const workers = Math.min(membership.workers, concurrency ?? membership.workers)
      return {
        concurrency: concurrency === null ? DEFAULT_CONCURRENCY : shareOf(concurrency, membership, id),
        perSecond: ratePerSecond === null ? null : ratePerSecond / workers,
      }
    },
    *barred() {
      if (membership.workers <= 1) return
      for (const { id, concurrency } of registry.current().bindings.values()) {
        if (concurrency !== null && shareOf(concurrency, membership, id) === 0) yield id
      }
    },
    shareAmong(current) {
      membership = current
    },
  }
}
