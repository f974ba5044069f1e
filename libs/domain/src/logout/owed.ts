import type { InFlightDelivery } from '../delivery/delivery.ts'
import { type Digest, deliveryId, type Target, targetOf } from '../ids.ts'
import type { Binding } from '../registry/binding.ts'
import type { LogoutEvent } from './event.ts'

/** A delivery that is owed. */
export interface OwedDelivery {
  readonly delivery: InFlightDelivery
  /** Whom it logs out. A waiting delivery of the same target to the same binding is covered by it. */
  readonly target: Target
  /** True: its relying party is known to hold a later session, which it would end. It is born pending: `narrowingOf` decides. */
  readonly doubtful?: true
}

/** An event, as far as its deliveries carry it. */
export type OwingEvent = Pick<LogoutEvent, 'id'> & InFlightDelivery['event']

/** The session that a delivery names, and when it ends by itself. `sid` is null where the delivery names the subject. */
export type Named = Pick<InFlightDelivery, 'sid' | 'sessionEndsAt'>

/** What `binding` is owed of `event`: a delivery that has not been tried. */
export function owed(
  event: OwingEvent,
  { id: bindingId }: Pick<Binding, 'id'>,
  { sid, sessionEndsAt }: Named,
  digest: Digest,
): OwedDelivery {
  return {
    delivery: {
      state: 'in_flight',
      id: deliveryId(event.id, bindingId, sid, digest),
      ...{ bindingId, eventId: event.id, sid, sessionEndsAt, event },
      ...{ attempts: 0, retries: 0, refusals: 0 },
    },
    target: targetOf(event, sid, digest),
  }
}
