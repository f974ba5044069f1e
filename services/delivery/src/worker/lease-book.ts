import type { DeliveryId } from '@curfew/domain'

/** A worker's knowledge of its leases at one instant. */
export interface LeaseState {
  /** Leases whose deliveries have all ended in the ledger, and the number of those deliveries. */
  readonly ended: readonly { readonly number: number; readonly deliveries: number }[]
  /** Leases whose open deliveries the worker all holds. */
  readonly held: readonly number[]
  /** Deliveries that the worker holds under any other lease. */
  readonly others: readonly DeliveryId[]
}

/**
 * Counts the open deliveries of every lease. The ledger then checks only leases that may differ from the worker's knowledge, not
 * the many that ended as expected.
 */
export interface LeaseBook {
  /** Notes the deliveries that the answer to a lease contained. */
  took(number: number, ids: readonly DeliveryId[]): void
  /**
   * Notes that the ledger confirmed these deliveries as settled, or given back, under this lease. Another lease may already
   * contain them.
   */
  ended(number: number, ids: readonly DeliveryId[]): void
  /**
   * Returns the state of the leases. Forgets a lease with a delivery that is neither held nor ended. @param held the deliveries
   * that the worker holds.
   */
  look(held: readonly DeliveryId[]): LeaseState
  /** Forgets leases that the ledger has deleted. */
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
