import { UnwritableValueError } from './faults.ts'

// RFC 3339, JavaScript and PostgreSQL can all write times between the years 1 and 9999. PostgreSQL can store other times, and
// infinity. They are read as the nearest time of that range, so that no row makes a statement or a reader fail. They are never
// written.

const FIRST = '0001-01-01T00:00:00.000Z'
const LAST = '9999-12-31T23:59:59.999Z'
const FIRST_MS = Date.parse(FIRST)
const LAST_MS = Date.parse(LAST)

/** SQL: a time, moved into the years 1 to 9999; null stays null. */
export function clampedTime(time: string): string {
  return `(case when ${time} > timestamptz '${LAST}' then timestamptz '${LAST}'
    when ${time} < timestamptz '${FIRST}' then timestamptz '${FIRST}' else ${time} end)`
}

/** SQL: a time as microseconds since the epoch. */
export function microsOf(time: string): string {
  return `(extract(epoch from ${clampedTime(time)}) * 1000000)::bigint`
}

/** A time as text for PostgreSQL. @throws {UnwritableValueError} for an invalid Date or a time outside the years 1 to 9999. */
export function timeText(time: Date): string {
  const ms = time.getTime()
  if (ms >= FIRST_MS && ms <= LAST_MS) return time.toISOString()
  throw new UnwritableValueError(
    `the time ${ms} ms cannot be written: it is not between the years 1 and 9999`,
  )
}

/** A valid Date for a time that `pg` parsed. For infinity and for years that a Date lacks, `pg` returns no valid Date. */
export function toTime(parsed: unknown, text: string): Date {
  const ms = parsed instanceof Date ? parsed.getTime() : Number(parsed)
  if (ms >= FIRST_MS && ms <= LAST_MS && parsed instanceof Date) return parsed
  return new Date(text.startsWith('-') || text.endsWith('BC') || ms < FIRST_MS ? FIRST_MS : LAST_MS)
}
