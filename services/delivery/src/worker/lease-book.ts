import type { DeliveryId } from '@curfew/domain'

/** What a worker knows of its leases, as of one instant. */
export interface LeaseState {
  /** Leases of which the ledger has an end of each delivery, and how many deliveries that were. */
  readonly ended: readonly { readonly number: number; readonly deliveries: number }[]
  /** Leases of which the worker holds every delivery that has no end yet. */
  readonly held: readonly number[]
  /** Deliveries that the worker holds under any other lease. */
  readonly others: readonly DeliveryId[]
}

/**
 * Counts which deliveries of a lease are still open. The ledger then looks up none of the many that ended as they should: it looks
 * only where the worker's knowledge and the lease differ.
 */
export interface LeaseBook {
  /** The answer to a lease has come, with these deliveries. */
  took(number: number, ids: readonly DeliveryId[]): void
  /** The ledger confirmed that these are settled, or given back, under this lease. By then another lease may have them. */
  ended(number: number, ids: readonly DeliveryId[]): void
  /** Forgets each lease of which a delivery is neither held nor ended. @param held what the worker holds. */
  look(held: readonly DeliveryId[]): LeaseState
  /** The ledger has deleted these leases. */
  deleted(ended: LeaseState['ended']): void
  clear(): void
}

export function createLeaseBook(): LeaseBook {
  const leases = new Map<number, { readonly deliveries: number; readonly open: Set<DeliveryId> }>()

  return {
    took(number, ids) {
      if (ids.length === 0) return
      leases.set(number, { deliveries: ids.length, open: new Set(ids) })
    },
    ended(number, ids) {
      for (const id of ids) leases.get(number)?.open.delete(id)
    },
    look(held) {
      const known = new Set(held)
      const ended: { number: number; deliveries: number }[] = []
      const whole: number[] = []
      const covered = new Set<DeliveryId>()
      for (const [number, { deliveries, open }] of leases) {
        if (open.size === 0) ended.push({ number, deliveries })
        else if (![...open].every((id) => known.has(id))) leases.delete(number)
        else {
          whole.push(number)
          for (const id of open) covered.add(id)
        }
      }
      return { ended, held: whole, others: held.filter((id) => !covered.has(id)) }
    },
    deleted(ended) {
      for (const { number } of ended) leases.delete(number)
    },
    clear: () => leases.clear(),
  }
}
