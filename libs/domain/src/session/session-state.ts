import type { DeliveryState } from '../delivery/delivery.ts'
import type { Level } from '../delivery/level.ts'
import {
  type BindingId,
  type DeliveryId,
  type Digest,
  type EventId,
  type Sid,
  type Subject,
  type Target,
  targetOf,
} from '../ids.ts'
import type { LogoutEvent } from '../logout/event.ts'
import { fallbacksFor, isDue } from '../logout/fallback.ts'
import { canName, mayName } from '../logout/names.ts'
import { type OwedDelivery, owed } from '../logout/owed.ts'
import {
  concernsClient,
  isEndedByInitiator,
  type LiveSession,
  matchesSession,
} from '../logout/session-match.ts'
import type { Binding, Names } from '../registry/binding.ts'

/** A delivery that an event owes, or owed, to a binding. If newer deliveries cover it, the fields are those of the newest. */
export interface SessionDelivery {
  readonly bindingId: BindingId
  readonly sid: Sid | null
  /** The subject that it names instead of the event's; null if it names the event's, or none. */
  readonly sub: Subject | null
  /** The delivery, or the newest delivery that covers it. */
  readonly id: DeliveryId
  readonly state: DeliveryState
  /** The level of its acknowledgement; null without one. */
  readonly level: Level | null
  readonly settledAt: Date | null
  /** When the session ends by itself, as known when the delivery was planned; null if it has no end, or none was known. */
  readonly sessionEndsAt: Date | null
  /** The event of the newest covering delivery; null if no newer delivery covers it. */
  readonly supersededBy: EventId | null
  /** Whether it names the subject and was withheld, because it would have ended a later session (`narrowingOf`). */
  readonly withheld: boolean
  /** Whether it is dead because its relying party takes the subject only, and no subject was known. */
  readonly lacksSubject: boolean
}

/** The state of an indexed session after an event. */
export type SessionState =
  /** The event is not about the session. */
  | { readonly kind: 'untouched' }
  /** Its RP acknowledged the logout as `done`, or started the logout itself. */
  | { readonly kind: 'over' }
  /** The event `by` ends the session but is not acknowledged. `orphaned`: the deliveries have failed. */
  | {
      readonly kind: 'covered'
      readonly by: EventId
      readonly orphaned: boolean
      /** Deliveries that the plan lacks, because the session was unknown when the event was planned. */
      readonly owed: readonly OwedDelivery[]
      /**
       * Deliveries that would lapse before the session ends, because the session was extended. They get the session's new end. Those
       * that have lapsed are put back.
       */
      readonly prolonged: readonly DeliveryId[]
      /** Dead deliveries that lacked the subject, which the session makes known. They are put back, and name it. */
      readonly named: readonly { readonly id: DeliveryId; readonly target: Target }[]
    }

/** The parts of a binding that a session's state depends on. */
export type SessionBinding = Pick<Binding, 'id' | 'kind' | 'offer' | 'fallbackFor' | 'names' | 'widens'>

/**
 * Decides the state of a session after an event. A fallback counts only if the delivery to the channel that it replaces is dead.
 *
 * @param alreadyCovered whether the session index already records that the event covers the session.
 * @param bindings the client's current bindings.
 * @param deliveries the deliveries that the event owes, or owed, to any binding of the client.
 */
export function sessionStateOf(
  event: LogoutEvent,
  session: LiveSession,
  {
    alreadyCovered,
    bindings,
    deliveries,
    digest,
  }: {
    alreadyCovered: boolean
    bindings: readonly SessionBinding[]
    deliveries: readonly SessionDelivery[]
    digest: Digest
  },
): SessionState {
  if (!alreadyCovered && !matchesSession(event, session)) return { kind: 'untouched' }
  if (!concernsClient(event, session.clientId)) return { kind: 'untouched' }
  if (isEndedByInitiator(event, session)) return { kind: 'over' }
  const naming = deliveries.filter((delivery) => {
    const binding = bindings.find(({ id }) => id === delivery.bindingId)
    return names(event, delivery, session, binding?.names ?? 'either')
  })
  const isNamed = ({ id }: SessionBinding) => naming.some(({ bindingId }) => bindingId === id)
  const isDead = ({ id }: Pick<SessionBinding, 'id'>) =>
    naming.some(({ bindingId, state }) => bindingId === id && state === 'dead_lettered')
  // Without a channel that may name it, the session would stay logged in unnoticed. The required channels then get dead letters.
  const leftBehind = !bindings.some((binding) => mayName(event, binding))
  const due = bindings.filter(
    (binding) =>
      (leftBehind ? binding.fallbackFor === null : mayName(event, binding)) &&
      isDue(binding, bindings, (other) => mayName(event, other) && !isDead(other)) &&
      (binding.fallbackFor === null || canName(event, binding, session.sid)),
  )
  const unnamed = due.filter((binding) => !isNamed(binding))
  const own = session.sub === event.sub ? null : session.sub
  const lacking = ({ id }: SessionBinding) =>
    deliveries.find(
      (each) => each.bindingId === id && each.lacksSubject && [null, session.sid].includes(each.sid),
    )
  const named = unnamed.flatMap((binding) => {
    const dead = lacking(binding)
    return dead === undefined
      ? []
      : [{ id: dead.id, target: targetOf(event, dead.sid, digest, own ?? undefined) }]
  })
  const missing = unnamed
    .filter((binding) => lacking(binding) === undefined)
    .map((binding) => {
      // A delivery for the subject was made before the session began. The new one names the session, so that it has another id.
      const again = deliveries.some(({ bindingId, sid }) => bindingId === binding.id && sid === null)
      return owed(event, binding, namedFor(event, binding, session, again), digest)
    })
  const counting = naming.filter(({ bindingId, state }) => {
    const binding = bindings.find(({ id }) => id === bindingId)
    // A removed binding counts until its delivery is dead. Then the client's current bindings are owed the logout.
    if (binding === undefined) return state !== 'dead_lettered' || due.length === 0
    return due.includes(binding) && (state !== 'dead_lettered' || fallbacksFor(binding, due).length === 0)
  })
  // The deliveries that keep the session from being over.
  const waiting = counting.find(
    (delivery) =>
      delivery.settledAt === null || (delivery.state === 'lapsed' && lapsesBefore(delivery, session)),
  )
  const failed = counting.find(({ state }) => state !== 'acknowledged')
  // An RP that only began to end the session may fail. The index keeps the session, so that the next logout is delivered as well.
  const decisive = waiting ?? failed ?? counting.find(({ level }) => level !== 'done')
  if (unnamed.length === 0 && counting.length > 0 && decisive === undefined) return { kind: 'over' }
  const orphaned =
    unnamed.length === 0 && waiting === undefined && (failed !== undefined || counting.length === 0)
  const by = decisive?.supersededBy ?? event.id
  const prolonged = naming.filter((delivery) => lapsesBefore(delivery, session)).map(({ id }) => id)
  return { kind: 'covered', by, orphaned, owed: missing, prolonged, named }
}

/**
 * Whether a delivery ended a session, or may still end it. A delivery for the subject does not if the RP acknowledged it before
 * the session began, if the RP requires a sid, or if it names another subject.
 *
 * @param kinds the kinds of names that its binding can have.
 */
function names(
  event: LogoutEvent,
  { sid, sub, state, settledAt, withheld, lacksSubject }: SessionDelivery,
  session: LiveSession,
  kinds: Names,
): boolean {
  if (lacksSubject || (sub !== null && sub !== session.sub)) return false
  const differs = sub === null && event.sub !== null && event.sub !== session.sub
  if (sid !== null) return sid === session.sid && !(differs && kinds === 'subject')
  if (withheld || differs) return false
  if (state !== 'acknowledged') return kinds !== 'session'
  // If the IdP's clock is ahead, startedAt may be too late. So an acknowledgement at or after acceptedAt ends the session too.
  return settledAt === null || settledAt >= session.startedAt || settledAt >= session.acceptedAt
}

/** Whether a delivery, or its replay, would lapse before the session ends. */
function lapsesBefore(
  { state, settledAt, sessionEndsAt }: SessionDelivery,
  { expiresAt }: LiveSession,
): boolean {
  return (
    (settledAt === null || state === 'dead_lettered' || state === 'lapsed') &&
    sessionEndsAt !== null &&
    (expiresAt === null || sessionEndsAt < expiresAt)
  )
}

function namedFor(
  event: LogoutEvent,
  binding: Pick<Binding, 'names'>,
  { sid, sub, expiresAt }: LiveSession,
  again: boolean,
) {
  return event.scope === 'session' || again || binding.names !== 'subject'
    ? { sid, sub, sessionEndsAt: expiresAt }
    : { sid: null, sub, sessionEndsAt: null }
}
