import type { Binding } from '../registry/binding.ts'

/** Whether a message can name a session to this RP. One that takes the subject only ends every session of the user, whatever was meant. */
export function takesSids({
  subjectClaims,
  sessionRequired,
}: Pick<Binding, 'subjectClaims' | 'sessionRequired'>): boolean {
  return subjectClaims !== 'sub' || sessionRequired
}
