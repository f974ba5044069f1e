import { type Binding, type BindingId, shareOf } from '@curfew/domain'
import type { Registry, Standing } from '@curfew/ledger'
import type { Limits } from './line.ts'

/** Most POSTs at once to a binding, from one worker, where its owner has not said how many it takes. */
const DEFAULT_CONCURRENCY = 16

type Place = Pick<Standing, 'workers' | 'rank'>

/** This worker's share of what a binding takes. */
export function limitsOf(binding: Binding | undefined, standing: Place, id: BindingId): Limits {
  const { concurrency = null, ratePerSecond = null } = binding ?? {}
  // Who may have no attempt under way has no use for a part of the rate.
  const workers = Math.min(standing.workers, concurrency ?? standing.workers)
  return {
    concurrency: concurrency === null ? DEFAULT_CONCURRENCY : shareOf(concurrency, standing, id),
    perSecond: ratePerSecond === null ? null : ratePerSecond / workers,
  }
}

/** Bindings that take fewer attempts at once than there are workers, and of which this one has none. */
export function* barred({ bindings }: Registry, standing: Place): Iterable<BindingId> {
  if (standing.workers <= 1) return
  for (const { id, concurrency } of bindings.values()) {
    if (concurrency !== null && shareOf(concurrency, standing, id) === 0) yield id
  }
}
