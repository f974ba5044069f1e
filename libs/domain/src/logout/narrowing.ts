import type { Digest } from '../ids.ts'
import type { Binding } from '../registry/binding.ts'
import type { LogoutEvent } from './event.ts'
import { type OwedDelivery, owed } from './owed.ts'
import { type LiveSession, matchesSession } from './session-match.ts'

/**
 * The decision about a delivery that names the subject, before an attempt.
 * - `sent`: the delivery is sent.
 * - `narrowed`: the delivery would end a session that the event is not about. The deliveries in `owed` name the matching sessions
 *   instead. If `owed` is empty, the delivery is withheld and becomes a dead letter.
 */
export type Narrowing =
  | { readonly kind: 'sent' }
  | { readonly kind: 'narrowed'; readonly owed: readonly OwedDelivery[] }

/**
 * Decides whether a delivery that names the subject may still be sent.
 *
 * A token for the subject ends every session of the user at the relying party, including sessions that began after the logout. A
 * later session may be posted between two attempts, so the decision is repeated before every attempt. If the binding takes only
 * the subject and its client holds an older session, the token is sent: no other message could end that session.
 *
 * @param held the known sessions of the subject at the binding's client.
 */
export function narrowingOf(
  event: LogoutEvent,
  binding: Pick<Binding, 'id' | 'names'>,
  held: readonly LiveSession[],
  digest: Digest,
): Narrowing {
  const matching = held.filter((session) => matchesSession(event, session))
  if (matching.length === held.length) return { kind: 'sent' }
  if (matching.length > 0 && binding.names === 'subject') return { kind: 'sent' }
  // Only what Curfew sends is narrowed.
  const sent = { id: binding.id, offer: null }
  const named = matching.map(({ sid, expiresAt, sub }) => ({ sid, sessionEndsAt: expiresAt, sub }))
  return { kind: 'narrowed', owed: named.map((session) => owed(event, sent, session, digest)) }
}

/**
 * Decides the same for a client with more sessions than Curfew names one by one, at least one of them a later session. It names
 * no session: the unnamed rest would stay logged in although the delivery counted as done. Instead the delivery is withheld and
 * becomes a visible dead letter.
 *
 * @param some a part of the sessions.
 */
export function narrowingOfMany(
  event: LogoutEvent,
  binding: Pick<Binding, 'names'>,
  some: readonly LiveSession[],
): Narrowing {
  const older = some.some((session) => matchesSession(event, session))
  return older && binding.names === 'subject' ? { kind: 'sent' } : { kind: 'narrowed', owed: [] }
}
