import type { Binding } from './binding.ts'
import type { InFlightDelivery } from './delivery.ts'
import { type Digest, deliveryId, type Target, targetOf } from './ids.ts'
import type { LogoutEvent } from './logout-event.ts'

/** Whom an event was planned for, and on what knowledge. */
export interface Plan {
  /** `registered`: every relying party of the issuer. `unknown_issuer`: nobody is registered for this `iss`. */
  readonly basis: 'registered' | 'unknown_issuer'
  readonly deliveries: readonly InFlightDelivery[]
  /** Whom all of them log out. A waiting delivery of the same target to the same binding is covered by the new one. */
  readonly target: Target
}

/**
 * Decides which bindings are owed a delivery. Over-notify, never under-notify: whoever could hold a session is told;
 * left out are only the client that started the logout and, where the event names its clients, all others.
 *
 * @param bindings those of the event's issuer, or null when no issuer has this `iss`.
 */
export function plan(event: LogoutEvent, bindings: readonly Binding[] | null, digest: Digest): Plan {
  const sid = event.scope === 'session' ? event.sid : null
  const target = targetOf(event, sid, digest)
  if (bindings === null) return { basis: 'unknown_issuer', deliveries: [], target }
  const deliveries = bindings
    .filter(({ clientId }) => event.includeInitiator || clientId !== event.initiator)
    .filter(({ clientId }) => event.clients === null || event.clients.includes(clientId))
    .map(
      (binding): InFlightDelivery => ({
        state: 'in_flight',
        id: deliveryId(event.id, binding.id, sid, digest),
        bindingId: binding.id,
        eventId: event.id,
        sid,
        sessionEndsAt: null,
        event,
        attempts: 0,
        retries: 0,
        refusals: 0,
      }),
    )
  return { basis: 'registered', deliveries, target }
}
