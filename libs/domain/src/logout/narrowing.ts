import type { Digest } from '../ids.ts'
import type { Binding } from '../registry/binding.ts'
import type { LogoutEvent } from './event.ts'
import { type OwedDelivery, owed } from './owed.ts'
import { type LiveSession, matchesSession } from './session-match.ts'

/**
 * What becomes of a delivery that names the subject, before it is attempted. `sent`: it goes out. `narrowed`: it would end a
 * session that the event is not about, so `owed` names the older ones instead; without any it is withheld, a dead letter.
 */
export type Narrowing =
  | { readonly kind: 'sent' }
  | { readonly kind: 'narrowed'; readonly owed: readonly OwedDelivery[] }

/**
 * Decides whether a delivery that names the subject may still be sent.
 *
 * A token for the subject ends every session of the user at the relying party, also one that began after the logout. Such a
 * session may be posted between two attempts, so this is asked again before each. A relying party that takes the subject only is
 * told all the same where it is known to hold an older session: that one must end, and cannot be named otherwise.
 *
 * @param held the sessions of the subject that the binding's client is known to hold.
 */
export function narrowingOf(
  event: LogoutEvent,
  binding: Pick<Binding, 'id' | 'names'>,
  held: readonly LiveSession[],
  digest: Digest,
): Narrowing {
  const covered = held.filter((session) => matchesSession(event, session))
  if (covered.length === held.length) return { kind: 'sent' }
  if (covered.length > 0 && binding.names === 'subject') return { kind: 'sent' }
  const named = covered.map(({ sid, expiresAt }) => ({ sid, sessionEndsAt: expiresAt }))
  return { kind: 'narrowed', owed: named.map((each) => owed(event, binding, each, digest)) }
}

/**
 * Decides the same where the client holds more sessions than Curfew names one by one, and a later one is known among them. Names
 * none: the rest would not be told, while the delivery counted as done. It is withheld instead, a dead letter that people see.
 *
 * @param some of the sessions.
 */
export function narrowingOfMany(
  event: LogoutEvent,
  binding: Pick<Binding, 'names'>,
  some: readonly LiveSession[],
): Narrowing {
  const older = some.some((session) => matchesSession(event, session))
  return older && binding.names === 'subject' ? { kind: 'sent' } : { kind: 'narrowed', owed: [] }
}
