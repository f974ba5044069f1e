import type { Binding } from '../registry/binding.ts'
import type { LogoutEvent } from './event.ts'

type Naming = Pick<Binding, 'names' | 'widens'>

/** Whether a message of a binding may stand for an event: one that can name the subject only would end more than a session. */
export function mayName({ scope }: Pick<LogoutEvent, 'scope'>, { names, widens }: Naming): boolean {
  return names !== 'subject' || widens || scope === 'subject' || scope === 'issuer'
}

/** Whether a message of a binding can name `sid` of an event, or the subject where `sid` is null. */
export function canName(
  event: Pick<LogoutEvent, 'sub' | 'scope'>,
  binding: Naming,
  sid: string | null,
): boolean {
  if (!mayName(event, binding)) return false
  // Where the subject is unknown, a channel that names subjects may still name the session: the attempt decides.
  return binding.names === 'session' ? sid !== null : sid !== null || event.sub !== null
}
