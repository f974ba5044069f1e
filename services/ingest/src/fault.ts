import { parseInstant } from '@curfew/contract'
import { CLOCKS_APART_MS_MAX } from '@curfew/domain'

/** One fault of what was posted, and what to change. */
export interface Fault {
  /** JSON pointer to the member. */
  readonly pointer: string
  readonly detail: string
}

/** When something happened, as an IdP's clock says it: not later than now, and after 1970. */
export function readPast(text: string, pointer: string, now: Date): Date | Fault {
  const instant = parseInstant(text)
  if (instant === null) return { pointer, detail: 'is not a time that exists' }
  if (instant.getTime() > now.getTime() + CLOCKS_APART_MS_MAX)
    return { pointer, detail: 'lies in the future' }
  // A year that PostgreSQL does not have would be accepted here and refused there, when nobody is left to tell.
  if (instant.getTime() < 0) return { pointer, detail: 'lies before 1970' }
  return instant
}
