import type { Binding } from '../registry/binding.ts'
import type { LogoutEvent } from './event.ts'

/** Whether a message can name a session to this RP. One that takes the subject only ends every session of the user, whatever was meant. */
export function takesSids({
  subjectClaims,
  sessionRequired,
}: Pick<Binding, 'subjectClaims' | 'sessionRequired'>): boolean {
  return subjectClaims !== 'sub' || sessionRequired
}

/** Whether a message to this RP can name `sid` of an event, or the subject where `sid` is null. */
export function canName(
  { sub }: Pick<LogoutEvent, 'sub' | 'scope'>,
  binding: Pick<Binding, 'subjectClaims' | 'sessionRequired'>,
  sid: string | null,
): boolean {
  return takesSids(binding) ? sid !== null || !binding.sessionRequired : sub !== null
}
