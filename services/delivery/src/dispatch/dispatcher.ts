import type { BindingId, InFlightDelivery, Issuer, Lane } from '@curfew/domain'
import type { Lease } from '@curfew/ledger'
import { allowance, isDown } from './appetite.ts'
import { breathe } from './breathe.ts'
import { createClaimTurns } from './claim-turns.ts'
import { type ClaimDeps, claimUntil, createBell } from './claims.ts'
import { createStarter, type Starter, type StarterDeps } from './starter.ts'

export type DispatcherDeps = Omit<StarterDeps, 'bell'> & Omit<ClaimDeps, 'bell' | 'starter' | 'turns'>

export interface Dispatcher extends Pick<Starter, 'accept'> {
  /** How many fresh deliveries a binding may be leased now. What is above goes to the ledger as pending. */
  room(id: BindingId, lane: Lane, issuer: Issuer): number
  /** Takes all that a lease gave, as `accept` does each. Of thousands, a few are taken at a time, while all count as held from the call on. */
  acceptAll(deliveries: readonly InFlightDelivery[], lease: Lease): Promise<void>
  /** Claims what is due until `stopping` aborts. */
  claimUntil(stopping: AbortSignal): Promise<void>
}

const ACCEPT_SLICE = 50

/**
 * Attempts what this worker holds, and claims from the ledger what is due. While a binding has more due in the ledger than this
 * worker can hold, or is down, what is new goes there too, behind it.
 */
export function createDispatcher(deps: DispatcherDeps): Dispatcher {
  const { worker, holdings } = deps
  const bell = createBell()
  const starter = createStarter({ ...deps, bell })
  const turns = createClaimTurns(deps.registry)

  return {
    accept: starter.accept,
    room(id, lane, issuer) {
      if (!worker.alive()) return 0
      const line = holdings.lineOf(id, issuer)
      if (line.backlog[lane]) return 0
      const { shares } = holdings
      const room = isDown(line) ? 0 : allowance(line, shares, shares.roomOf(issuer)) - line.inHand
      if (room <= 0) line.backlog[lane] = true
      return Math.max(0, room)
    },
    async acceptAll(deliveries, lease) {
      if (lease.workerId !== worker.id()) return
      worker.took(
        lease,
        deliveries.map(({ id }) => id),
      )
      for (const delivery of deliveries) holdings.hold(delivery)
      for (const [index, delivery] of deliveries.entries()) {
        if (index > 0 && index % ACCEPT_SLICE === 0) await breathe()
        // Its lease may have been lost meanwhile.
        if (lease.workerId === worker.id()) starter.take(delivery, lease)
        else holdings.drop(delivery.event.iss, [delivery.id])
      }
    },
    claimUntil: (stopping) => claimUntil({ ...deps, bell, starter, turns }, stopping),
  }
}
