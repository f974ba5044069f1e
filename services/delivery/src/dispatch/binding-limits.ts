import { type BindingId, shareOf } from '@curfew/domain'
import type { Standing } from '@curfew/ledger'
import type { RegistryCache } from '../intake/registry-cache.ts'
import type { Limits } from './binding-queue.ts'

/** Most POSTs at once to a binding, from one worker, where its owner has not said how many it takes. */
const DEFAULT_CONCURRENCY = 16

/** What this worker may do to bindings: its share of what each takes. */
export interface BindingLimits {
  of(id: BindingId): Limits
  /** Bindings that take fewer attempts at once than there are workers, and of which this one has none. */
  barred(): Iterable<BindingId>
  /** Shares from now on as a heartbeat found it: how many workers may attempt deliveries, and which of them this is. */
  shareAmong(place: Pick<Standing, 'workers' | 'rank'>): void
}

export function createBindingLimits(registry: Pick<RegistryCache, 'current'>): BindingLimits {
  let place: Pick<Standing, 'workers' | 'rank'> = { workers: 1, rank: 0 }
  return {
    of(id) {
      const { concurrency = null, ratePerSecond = null } = registry.current().bindings.get(id) ?? {}
      // Who may have no attempt under way has no use for a part of the rate.
      const workers = Math.min(place.workers, concurrency ?? place.workers)
      return {
        concurrency: concurrency === null ? DEFAULT_CONCURRENCY : shareOf(concurrency, place, id),
        perSecond: ratePerSecond === null ? null : ratePerSecond / workers,
      }
    },
    *barred() {
      if (place.workers <= 1) return
      for (const { id, concurrency } of registry.current().bindings.values()) {
        if (concurrency !== null && shareOf(concurrency, place, id) === 0) yield id
      }
    },
    shareAmong(found) {
      place = found
    },
  }
}
