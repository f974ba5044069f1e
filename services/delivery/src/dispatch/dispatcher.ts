import type { BindingId, InFlightDelivery, Issuer, Lane } from '@curfew/domain'
import type { Lease } from '@curfew/ledger'
import { allowance, isUnavailable } from './appetite.ts'
import { breathe } from './breathe.ts'
import { createClaimTurns } from './claim-turns.ts'
import { Bell, type ClaimDeps, claimUntil } from './claims.ts'
import { Starter, type StarterDeps } from './starter.ts'

export type DispatcherDeps = Omit<StarterDeps, 'bell'> & Omit<ClaimDeps, 'bell' | 'starter' | 'turns'>

const ACCEPT_SLICE = 50

/**
 * Attempts the deliveries that this worker holds, and claims due ones from the ledger. A new delivery stays in the ledger while its
 * binding is unavailable, or has more due deliveries than this worker can hold.
 */
export class Dispatcher {
  readonly #deps: DispatcherDeps
  readonly #bell = new Bell()
  readonly #starter: Starter

  constructor(deps: DispatcherDeps) {
    this.#deps = deps
    this.#starter = new Starter({ ...deps, bell: this.#bell })
  }

  /** The number of fresh deliveries of a binding that may be leased now. The others go to the ledger as pending. */
  room(id: BindingId, lane: Lane, issuer: Issuer): number {
    const { worker, holdings } = this.#deps
    if (!worker.alive()) return 0
    const queue = holdings.queueOf(id, issuer)
    if (queue.backlog[lane]) return 0
    const { shares } = holdings
    const room = isUnavailable(queue) ? 0 : allowance(queue, shares, shares.roomOf(issuer)) - queue.inHand
    if (room <= 0) queue.backlog[lane] = true
    return Math.max(0, room)
  }

  /** Takes a delivery that is leased to this worker. Drops it if the worker has lost its leases meanwhile. */
  accept(delivery: InFlightDelivery, lease: Lease): void {
    this.#starter.accept(delivery, lease)
  }

  /**
   * Takes all deliveries of a lease, as `accept` does for one. All count as held from the call on. Of thousands, it starts a few
   * at a time.
   */
  async acceptAll(deliveries: readonly InFlightDelivery[], lease: Lease): Promise<void> {
    const { worker, holdings } = this.#deps
    if (lease.workerId !== worker.id()) return
    const ids = deliveries.map(({ id }) => id)
    worker.took(lease, ids)
    for (const delivery of deliveries) holdings.hold(delivery)
    for (const [index, delivery] of deliveries.entries()) {
      if (index > 0 && index % ACCEPT_SLICE === 0) await breathe()
      // The lease may have been lost meanwhile.
      if (lease.workerId === worker.id()) this.#starter.take(delivery, lease)
      else holdings.drop(delivery.event.iss, [delivery.id])
    }
  }

  /** Claims due deliveries until `stopping` aborts. */
  claimUntil(stopping: AbortSignal): Promise<void> {
    const turns = createClaimTurns(this.#deps.registry)
    return claimUntil({ ...this.#deps, bell: this.#bell, starter: this.#starter, turns }, stopping)
  }
}
