import { parseInstant } from '@curfew/contract'
import { CLOCKS_APART_MS_MAX } from '@curfew/domain'

/** One fault of a posted element. `detail` says what to change. */
export interface Fault {
  /** JSON pointer to the member. */
  readonly pointer: string
  readonly detail: string
}

/** Reads a past time of an IdP's clock: after 1970, and not later than now plus the tolerated clock difference. */
export function readPast(text: string, pointer: string, now: Date): Date | Fault {
  const instant = parseInstant(text)
  if (instant === null) return { pointer, detail: 'is not a time that exists' }
  if (instant.getTime() > now.getTime() + CLOCKS_APART_MS_MAX)
    return { pointer, detail: 'must not be in the future' }
  // PostgreSQL refuses some early years. After the 202 it would be too late to reject them.
  if (instant.getTime() < 0) return { pointer, detail: 'must not be before 1970' }
  return instant
}
