import type { Binding } from '../registry/binding.ts'
import type { LogoutEvent } from './event.ts'

type Naming = Pick<Binding, 'names' | 'widens'>

/**
 * Whether a binding may be used for an event. A message that names only the subject would end more than one session or device.
 */
export function mayName({ scope }: Pick<LogoutEvent, 'scope'>, { names, widens }: Naming): boolean {
  return names !== 'subject' || widens || scope === 'subject' || scope === 'issuer'
}

/** Whether a message of a binding can name `sid` of an event, or the subject if `sid` is null. */
export function canName(
  event: Pick<LogoutEvent, 'sub' | 'scope'>,
  binding: Naming,
  sid: string | null,
): boolean {
  if (!mayName(event, binding)) return false
  if (binding.names === 'any') return true
  // If the subject is unknown, a channel that names subjects may still use the session: the attempt decides.
  return binding.names === 'session' ? sid !== null : sid !== null || event.sub !== null
}
