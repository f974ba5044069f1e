import type { DeadLetterReason } from '../delivery/delivery.ts'
import type { Digest } from '../ids.ts'
import type { Binding } from '../registry/binding.ts'
import { canName } from './names.ts'
import { type Named, type OwedDelivery, type OwingEvent, owed } from './owed.ts'

// A relying party may have several channels. A required one is owed every logout. A fallback stands in for the channel that it
// names: it is owed a logout where that channel is known to be unusable when the logout is planned, or when the delivery to that
// channel ends as a dead letter. Where a channel was removed from the registration, the required channels that the relying party has
// now are owed what the removed one was owed.

/** Dead letters that owe no other channel: the message would end a later session. */
export const REASONS_WITHOUT_FALLBACK: readonly DeadLetterReason[] = ['later_session']
/** Dead letters whose channel is no longer registered. */
export const REASONS_OF_REMOVAL: readonly DeadLetterReason[] = ['client_removed']

type Channel = Pick<Binding, 'kind' | 'fallbackFor'>

/** The bindings among those of one relying party that stand in for `binding`. */
export function fallbacksFor<Each extends Channel>(
  { kind }: Pick<Binding, 'kind'>,
  party: readonly Each[],
): readonly Each[] {
  return party.filter(({ fallbackFor }) => fallbackFor === kind)
}

/**
 * The bindings that a dead letter owes its logout.
 *
 * @param dead the binding of the dead letter.
 * @param party the bindings that its relying party has now.
 */
export function successorsOf<Each extends Channel>(
  dead: Pick<Binding, 'kind'>,
  reason: DeadLetterReason,
  party: readonly Each[],
): readonly Each[] {
  if (REASONS_WITHOUT_FALLBACK.includes(reason)) return []
  const fallbacks = fallbacksFor(dead, party)
  if (!REASONS_OF_REMOVAL.includes(reason)) return fallbacks
  return [...fallbacks, ...party.filter(({ fallbackFor }) => fallbackFor === null)]
}

/**
 * Whether a binding is owed a logout by now: it is required, or one binding of the channel before it is owed and unusable. A
 * fallback for a channel that its relying party does not have counts as required.
 *
 * @param party all bindings of the relying party.
 */
export function isDue<Each extends Channel>(
  { kind, fallbackFor }: Channel,
  party: readonly Each[],
  isUsable: (binding: Each) => boolean,
): boolean {
  if (fallbackFor === null) return true
  const before = party.filter((each) => each.kind === fallbackFor)
  // Without its own kind, so that this ends whatever the registration says.
  const others = party.filter((each) => each.kind !== kind)
  return before.length === 0 || before.some((each) => !isUsable(each) && isDue(each, others, isUsable))
}

/**
 * What a fallback is owed for a delivery that ended as a dead letter; null where its messages cannot name it.
 *
 * @param dead what that delivery named.
 */
export function fallbackOf(
  event: OwingEvent,
  dead: Named,
  fallback: Pick<Binding, 'id' | 'names' | 'widens'>,
  digest: Digest,
): OwedDelivery | null {
  if (!canName(event, fallback, dead.sid)) return null
  const named =
    event.scope === 'session' || fallback.names !== 'subject' ? dead : { sid: null, sessionEndsAt: null }
  return owed(event, fallback, { sid: named.sid, sessionEndsAt: named.sessionEndsAt }, digest)
}
