import type { DeliveryState } from '../delivery/delivery.ts'
import type { Level } from '../delivery/level.ts'
import type { BindingId, DeliveryId, Digest, EventId, Sid } from '../ids.ts'
import type { LogoutEvent } from '../logout/event.ts'
import { fallbacksFor, isDue } from '../logout/fallback.ts'
import { canName, mayName } from '../logout/names.ts'
import { type OwedDelivery, owed } from '../logout/owed.ts'
import { isEndedByInitiator, isMeant, type LiveSession, matchesSession } from '../logout/session-match.ts'
import type { Binding } from '../registry/binding.ts'

/** A delivery that an event owes, or owed, to a binding of one client. */
export interface SessionDelivery {
  readonly bindingId: BindingId
  readonly sid: Sid | null
  /** Which it is and how it stands; or, where others say what it would have said, which is the last of these, and how that stands. */
  readonly id: DeliveryId
  readonly state: DeliveryState
  /** The level of its acknowledgement; null without one. */
  readonly level: Level | null
  readonly settledAt: Date | null
  /** When the session ends by itself, as far as was known when that one was planned. */
  readonly sessionEndsAt: Date | null
  /** The event of that last one; null where no other says it. */
  readonly supersededBy: EventId | null
  /** Whether it names the subject and was not sent as such, for that would have ended a later session: see `narrowingOf`. */
  readonly withheld: boolean
}

/** How a session stands that the index knows, after an event was planned and as far as that is settled. */
export type SessionState =
  /** The event is not about it. */
  | { readonly kind: 'untouched' }
  /** Its RP acknowledged it as `done`, or is the initiator. */
  | { readonly kind: 'over' }
  /** It is to be over: `by` the event that sees to it. `orphaned`: that came to nothing. */
  | {
      readonly kind: 'covered'
      readonly by: EventId
      readonly orphaned: boolean
      /** What has to be told yet, for the session was not known when the event was planned. */
      readonly owed: readonly OwedDelivery[]
      /** What would lapse too early, for the session was extended since: it ends as late as the session does. */
      readonly prolonged: readonly DeliveryId[]
    }

/** A binding, as far as it says how a session stands. */
export type SessionBinding = Pick<Binding, 'id' | 'kind' | 'fallbackFor' | 'names' | 'widens'>

/**
 * Says how a session stands towards an event. A fallback counts only in the place of a dead delivery to the channel before it.
 *
 * @param taken whether the event has been found to see to this session already.
 * @param bindings those that its client has now.
 * @param told what the event owes, or owed, to any binding of that client.
 */
export function standingOf(
  event: LogoutEvent,
  session: LiveSession,
  {
    taken,
    bindings,
    told,
    digest,
  }: {
    taken: boolean
    bindings: readonly SessionBinding[]
    told: readonly SessionDelivery[]
    digest: Digest
  },
): SessionState {
  if (!taken && !matchesSession(event, session)) return { kind: 'untouched' }
  if (!isMeant(event, session.clientId)) return { kind: 'untouched' }
  if (isEndedByInitiator(event, session)) return { kind: 'over' }
  const sidRequired = new Set(bindings.filter((each) => each.names === 'session').map(({ id }) => id))
  const naming = told.filter((delivery) => names(delivery, session, sidRequired.has(delivery.bindingId)))
  const isNamed = ({ id }: SessionBinding) => naming.some(({ bindingId }) => bindingId === id)
  const isDead = ({ id }: Pick<SessionBinding, 'id'>) =>
    naming.some(({ bindingId, state }) => bindingId === id && state === 'dead_lettered')
  // Without any channel that may name it, the session would live on unnoticed: the required ones become dead letters.
  const leftBehind = !bindings.some((each) => mayName(event, each))
  const due = bindings.filter(
    (binding) =>
      (leftBehind ? binding.fallbackFor === null : mayName(event, binding)) &&
      isDue(binding, bindings, (each) => mayName(event, each) && !isDead(each)) &&
      (binding.fallbackFor === null || canName(event, binding, session.sid)),
  )
  const missing = due
    .filter((binding) => !isNamed(binding))
    .map((binding) => {
      // Of the subject it was told before the session began: what names the session is another delivery, whatever the token says.
      const again = told.some(({ bindingId, sid }) => bindingId === binding.id && sid === null)
      return owed(event, binding, namedFor(event, binding, session, again), digest)
    })
  const counting = naming.filter(({ bindingId, state }) => {
    const binding = bindings.find(({ id }) => id === bindingId)
    // A removed binding counts until its delivery dies: then the bindings that the client has now are owed the logout.
    if (binding === undefined) return state !== 'dead_lettered' || due.length === 0
    return due.includes(binding) && (state !== 'dead_lettered' || fallbacksFor(binding, due).length === 0)
  })
  // Of several endpoints, the one that it depends on whether the session is over.
  const waiting = counting.find(({ settledAt }) => settledAt === null)
  const failed = counting.find(({ state }) => state !== 'acknowledged')
  // An RP that only began to end the session may fail to: the index keeps it, and the next logout is delivered again.
  const decisive = waiting ?? failed ?? counting.find(({ level }) => level !== 'done')
  if (missing.length === 0 && counting.length > 0 && decisive === undefined) return { kind: 'over' }
  const orphaned =
    missing.length === 0 && waiting === undefined && (failed !== undefined || counting.length === 0)
  const by = decisive?.supersededBy ?? event.id
  const prolonged = naming.filter((delivery) => lapsesBefore(delivery, session)).map(({ id }) => id)
  return { kind: 'covered', by, orphaned, owed: missing, prolonged }
}

/**
 * Whether a delivery ends a session, or may yet. What an RP acknowledged before the session began did not end it, and one of the
 * subject never does where the RP requires a sid.
 */
function names(
  { sid, state, settledAt, withheld }: SessionDelivery,
  session: LiveSession,
  sidRequired: boolean,
): boolean {
  if (sid !== null) return sid === session.sid
  if (withheld) return false
  if (state !== 'acknowledged') return !sidRequired
  // By our clock where that knew of the session sooner: the IdP's may be ahead.
  return settledAt === null || settledAt >= session.startedAt || settledAt >= session.acceptedAt
}

/** Whether a delivery is made, or would be by a replay, only until a time at which the session lasts still. */
function lapsesBefore(
  { state, settledAt, sessionEndsAt }: SessionDelivery,
  { expiresAt }: LiveSession,
): boolean {
  return (
    (settledAt === null || state === 'dead_lettered') && sessionEndsAt !== null && sessionEndsAt < expiresAt
  )
}

function namedFor(
  event: LogoutEvent,
  binding: Pick<Binding, 'names'>,
  { sid, expiresAt }: LiveSession,
  again: boolean,
) {
  return event.scope === 'session' || again || binding.names !== 'subject'
    ? { sid, sessionEndsAt: expiresAt }
    : { sid: null, sessionEndsAt: null }
}
