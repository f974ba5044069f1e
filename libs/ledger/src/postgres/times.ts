import { UnwritableValueError } from './faults.ts'

// Times between the years 1 and 9999, which is what RFC 3339, JavaScript and PostgreSQL can all write. Others, of which
// PostgreSQL keeps some, and infinity, are read as the nearest of these: no time in a row makes a statement or a reader fail.
// None of them is written.

const FIRST = '0001-01-01T00:00:00.000Z'
const LAST = '9999-12-31T23:59:59.999Z'
const FIRST_MS = Date.parse(FIRST)
const LAST_MS = Date.parse(LAST)

/** SQL: a time, or the nearest that can be reckoned with; null stays null. */
export function reckonable(time: string): string {
  return `(case when ${time} > timestamptz '${LAST}' then timestamptz '${LAST}'
    when ${time} < timestamptz '${FIRST}' then timestamptz '${FIRST}' else ${time} end)`
}

/** SQL: a time as microseconds of the epoch. */
export function microsOf(time: string): string {
  return `(extract(epoch from ${reckonable(time)}) * 1000000)::bigint`
}

/** A time as PostgreSQL reads it. @throws {UnwritableValueError} for a time before the year 1, after 9999, or an invalid Date. */
export function timeText(time: Date): string {
  const ms = time.getTime()
  if (ms >= FIRST_MS && ms <= LAST_MS) return time.toISOString()
  throw new UnwritableValueError(`the time ${ms} ms is not between the years 1 and 9999`)
}

/** What `pg` made of a time: a Date; beside infinity, and beyond what a Date holds, no valid one. */
export function toTime(parsed: unknown, text: string): Date {
  const ms = parsed instanceof Date ? parsed.getTime() : Number(parsed)
  if (ms >= FIRST_MS && ms <= LAST_MS && parsed instanceof Date) return parsed
  return new Date(text.startsWith('-') || text.endsWith('BC') || ms < FIRST_MS ? FIRST_MS : LAST_MS)
}
