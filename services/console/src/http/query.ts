import { parseInstant } from '@curfew/contract'
import { ProblemError } from '@curfew/runtime'

export const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i
/** The ledger has no times before or after these (`libs/ledger/src/postgres/times.ts`). */
const FIRST_MS = Date.parse('0001-01-01T00:00:00.000Z')
const LAST_MS = Date.parse('9999-12-31T23:59:59.999Z')
/** A query string reads a plus sign as a space. */
const LOST_PLUS = / \d{2}:\d{2}$/

/** A time in a query or body, moved into the years 1 to 9999. @throws a 400 problem that names the member. */
export function readTime(
  text: string | undefined,
  pointer: string,
  part: 'query' | 'body' = 'query',
): Date | null {
  if (text === undefined) return null
  const time = parseInstant(text)
  if (time === null) {
    const hint = part === 'query' && LOST_PLUS.test(text) ? ': write + as %2B' : ''
    throw invalid(pointer, `must be an RFC 3339 time such as 2026-01-31T12:00:00Z${hint}`, part)
  }
  return new Date(Math.min(Math.max(time.getTime(), FIRST_MS), LAST_MS))
}

/** A 400 problem for the member at `pointer` of the query or the body. */
export function invalid(pointer: string, detail: string, part: 'query' | 'body' = 'query'): ProblemError {
  const member = part === 'query' ? pointer.slice(1) : pointer
  return new ProblemError({
    status: 400,
    title: `Invalid ${part}`,
    detail: `${member} ${detail}.`,
    errors: [{ pointer, detail }],
  })
}
