import type { DeadLetterReason } from '../delivery/delivery.ts'
import type { Digest } from '../ids.ts'
import type { Binding } from '../registry/binding.ts'
import { canName } from './names.ts'
import { type Named, type OwedDelivery, type OwingEvent, owed } from './owed.ts'

// A relying party may have several channels. A required channel is owed every logout. A fallback replaces the channel that it
// names in two cases: that channel is unusable when the logout is planned, or its delivery becomes a dead letter. If a channel is
// removed from the registration, the relying party's current required channels are owed the logouts of the removed channel.

/** Dead-letter reasons for which no other channel is owed the logout, because its message would end a later session. */
export const REASONS_WITHOUT_FALLBACK: readonly DeadLetterReason[] = ['later_session']
/** Dead-letter reasons that mean that the channel was removed from the registration. */
export const REASONS_OF_REMOVAL: readonly DeadLetterReason[] = ['client_removed']

type Channel = Pick<Binding, 'kind' | 'fallbackFor'>

/** The bindings of one relying party that are fallbacks for `binding`. */
export function fallbacksFor<Each extends Channel>(
  { kind }: Pick<Binding, 'kind'>,
  party: readonly Each[],
): readonly Each[] {
  return party.filter(({ fallbackFor }) => fallbackFor === kind)
}

/**
 * The bindings that are owed the logout of a dead letter.
 *
 * @param dead the binding of the dead letter.
 * @param party the current bindings of its relying party.
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
 * Whether a binding is owed a logout. A required binding is. A fallback is owed if a binding of the channel that it replaces is
 * owed and unusable. A fallback for a channel that its relying party does not have counts as required.
 *
 * @param party all bindings of the relying party.
 */
export function isDue<Each extends Channel>(
  { kind, fallbackFor }: Channel,
  party: readonly Each[],
  isUsable: (binding: Each) => boolean,
): boolean {
  if (fallbackFor === null) return true
  const replaced = party.filter((binding) => binding.kind === fallbackFor)
  // The recursion leaves out this kind, so that it ends even if fallbacks form a circle.
  const others = party.filter((binding) => binding.kind !== kind)
  return (
    replaced.length === 0 ||
    replaced.some((binding) => !isUsable(binding) && isDue(binding, others, isUsable))
  )
}

/**
 * The delivery that a fallback is owed for a dead letter; null if the fallback cannot name the session or subject.
 *
 * @param dead the session or subject that the dead letter named.
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
