import type { InFlightDelivery, Traced } from '../delivery/delivery.ts'
import { type Digest, deliveryId, type Subject, type Target, targetOf } from '../ids.ts'
import type { Binding } from '../registry/binding.ts'
import type { LogoutEvent } from './event.ts'

/** A delivery that an event owes to a binding. */
export interface OwedDelivery {
  readonly delivery: InFlightDelivery
  /** The logged-out session or subject. The delivery supersedes a pending one with the same target and binding. */
  readonly target: Target
  /** The subject that its message names instead of the event's; null if it names none. Absent: the event's. */
  readonly own?: Subject | null
  /**
   * True if it would end a later session that its relying party holds. It is then created as pending, and `narrowingOf` decides.
   */
  readonly doubtful?: true
  /** When its first attempt may start. Absent: at once. */
  readonly dueAt?: Date
  /**
   * When the session that it names was last posted for its client. A logout that was accepted earlier does not make the delivery
   * needless. Absent if the index has no such session.
   */
  readonly postedAt?: Date
  /** How long it is offered to a relying party that fetches it, in milliseconds. Absent: Curfew sends it. */
  readonly offerMs?: number
}

/** The parts of an event that its deliveries carry. Without a trace context, they carry none until they are claimed. */
export type OwingEvent = Pick<LogoutEvent, 'id'> &
  Omit<InFlightDelivery['event'], 'traceparent'> &
  Partial<Traced>

/**
 * The session that a delivery names, and when that session ends by itself. `sid` is null if the delivery names the subject.
 * `sessionEndsAt` is null if the session has no end, or none is known: such a delivery does not lapse.
 */
export interface Named extends Pick<InFlightDelivery, 'sid' | 'sessionEndsAt'> {
  /** The subject that it names; null if it names none. Absent: the event's. */
  readonly sub?: Subject | null
}

/** Makes the delivery that `event` owes to a binding, with no attempt yet. */
export function owed(
  event: OwingEvent,
  { id: bindingId, offer }: Pick<Binding, 'id' | 'offer'>,
  { sid, sessionEndsAt, sub = event.sub }: Named,
  digest: Digest,
): OwedDelivery {
  const differs = sub !== event.sub
  const own = differs ? sub : null
  const traced = isTraced(event) ? event : { ...event, traceparent: null }
  return {
    delivery: {
      state: 'in_flight',
      id: deliveryId(event.id, bindingId, sid, digest, own),
      ...{ bindingId, eventId: event.id, sid, sessionEndsAt, event: differs ? { ...traced, sub } : traced },
      ...{ attempts: 0, retries: 0, refusals: 0 },
    },
    target: targetOf(event, sid, digest, differs ? own : undefined),
    ...(differs && { own }),
    ...(offer !== null && { offerMs: offer.lastsMs }),
  }
}

function isTraced(event: OwingEvent): event is OwingEvent & Traced {
  return event.traceparent !== undefined
}
