import type { DeadLetterReason } from '../delivery/delivery.ts'
import type { Digest } from '../ids.ts'
import type { Binding } from '../registry/binding.ts'
import { canName, mayName } from './names.ts'
import { type Named, type OwedDelivery, type OwingEvent, owed } from './owed.ts'

// A relying party may have several channels. A required channel is owed every logout. A fallback replaces the channel that it
// names in two cases: that channel is unusable when the logout is planned, or its delivery becomes a dead letter. If the owner
// changes the registration while a logout waits, the dead letter is also owed to the required channels that have no delivery of it.

/** Dead-letter reasons for which no other channel is owed the logout, because its message would end a later session. */
export const REASONS_WITHOUT_SUCCESSOR: readonly DeadLetterReason[] = ['later_session']
/** Dead-letter reasons that mean that the channel was removed from the registration. It may be registered again. */
export const REASONS_OF_REMOVAL: readonly DeadLetterReason[] = ['client_removed']

type Channel = Pick<Binding, 'kind' | 'fallbackFor'>

/** The bindings of one relying party that are fallbacks for `binding`. */
export function fallbacksFor<Each extends Channel>(
  { kind }: Pick<Binding, 'kind'>,
  party: readonly Each[],
): readonly Each[] {
  return party.filter(({ fallbackFor }) => fallbackFor === kind)
}

/** A current binding of the relying party of a dead letter. */
export interface Successor extends Channel, Pick<Binding, 'id' | 'offer' | 'names' | 'widens' | 'always'> {
  /**
   * Whether the binding has a delivery of the event that names what the dead letter named, or more. A delivery that died because the
   * binding was not registered does not count.
   */
  readonly delivered: boolean
}

/**
 * The deliveries that a dead letter owes: to the fallbacks of its channel, and to required channels without a delivery of the event.
 * If the channel of the dead letter was removed and no other channel can name the logout, the required channels are owed it all the
 * same: their own dead letters then say why. A binding for the sessions of the issuer itself (`always`) and the channels of its relying
 * party end different sessions, so a dead letter of one is not owed to the other unless that is its fallback.
 *
 * @param dead the session or subject that the dead letter named, and its channel.
 * @param party the current bindings of its relying party; without its own, unless the reason is a removal.
 */
export function successionOf(
  event: OwingEvent,
  dead: Required<Named> & Pick<Binding, 'kind' | 'always'>,
  reason: DeadLetterReason,
  party: readonly Successor[],
  digest: Digest,
): readonly OwedDelivery[] {
  if (REASONS_WITHOUT_SUCCESSOR.includes(reason)) return []
  const fallbacks = fallbacksFor(dead, party).filter((fallback) => canName(event, fallback, dead.sid))
  const removed = REASONS_OF_REMOVAL.includes(reason)
  const kinds = [...party.map(({ kind }) => kind), ...(removed ? [] : [dead.kind])]
  const required = party.filter(({ fallbackFor, always }) => {
    return !always && !dead.always && (fallbackFor === null || !kinds.includes(fallbackFor))
  })
  const missed = required.filter(({ delivered }) => !delivered)
  const able = missed.filter((binding) => mayName(event, binding))
  const replaced = able.length + fallbacks.length > 0 || missed.length < required.length
  const leftBehind = removed && !replaced
  return [...new Set([...fallbacks, ...(leftBehind ? missed : able)])].map((binding) => {
    const subjectOnly = event.scope !== 'session' && binding.names === 'subject'
    const { sid, sessionEndsAt } = subjectOnly ? { sid: null, sessionEndsAt: null } : dead
    return owed(event, binding, { sid, sessionEndsAt, sub: dead.sub }, digest)
  })
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
