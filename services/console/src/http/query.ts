import { parseInstant } from '@curfew/contract'
import { ProblemError } from '@curfew/runtime'

export const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i
const RFC_3339 = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:Z|[+-]\d{2}:\d{2})$/

/** A time in a query or body. @throws a 400 problem that names the member. */
export function readTime(
  text: string | undefined,
  pointer: string,
  part: 'query' | 'body' = 'query',
): Date | null {
  if (text === undefined) return null
  // Date.parse accepts many other formats, and times that PostgreSQL does not have.
  const time = RFC_3339.test(text) ? parseInstant(text) : null
  if (time === null) throw invalid(pointer, 'must be a time in RFC 3339 format', part)
  return time
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
