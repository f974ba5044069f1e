import { Type } from 'typebox'

// Times in requests and log records: RFC 3339 section 5.6, exactly. PostgreSQL and `Date.parse` accept other formats too.

const HOUR = '(?:[01]\\d|2[0-3])'
/** The grammar `date-time`. Its letters are case-insensitive (RFC 5234 section 2.3). The calendar is checked by `parseInstant`. */
const PATTERN = `^(\\d{4})-(0[1-9]|1[0-2])-(0[1-9]|[12]\\d|3[01])[Tt](${HOUR}):([0-5]\\d):([0-5]\\d|60)(\\.\\d+)?([Zz]|[+-]${HOUR}:[0-5]\\d)$`
const REGEXP = new RegExp(PATTERN, 'u')
/** Longest text of a time. The grammar has no limit for the digits of a fraction; this one leaves 38. */
const LENGTH_MAX = 64

/** A time in RFC 3339 format. `description` says its meaning and its default. */
export const instantOf = (description: string) =>
  Type.String({ maxLength: LENGTH_MAX, pattern: PATTERN, description })
export const Instant = instantOf('A time in RFC 3339 format.')
/** The same as a parameter, for `parseInstant` to check: its fault explains that a query string turns a plus sign into a space. */
export const instantParameter = (description: string) => Type.String({ maxLength: LENGTH_MAX, description })

/**
 * Parses an RFC 3339 time (section 5.6). Digits of a fraction beyond the milliseconds are cut off. A leap second must be the last
 * second of a month in UTC (ITU-R TF.460), and is read as the second after it.
 *
 * @returns null if the text is not in the format, or if the time does not exist, such as 30 February.
 */
export function parseInstant(text: string): Date | null {
  const parts = text.length > LENGTH_MAX ? null : REGEXP.exec(text)
  if (parts === null) return null
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = parts.slice(1, 7).map(Number)
  if (day > daysOf(year, month)) return null
  const instant = new Date(0)
  // Date.UTC would take the years 0 to 99 for those of the twentieth century.
  instant.setUTCFullYear(year, month - 1, day)
  instant.setUTCHours(hour, minute - offsetMinutes(parts[8] ?? 'Z'), second)
  if (second === 60 && !isStartOfMonth(instant)) return null
  instant.setUTCMilliseconds(Number((parts[7] ?? '.0').slice(1, 4).padEnd(3, '0')))
  return instant
}

function daysOf(year: number, month: number): number {
  // The calendar repeats after 400 years.
  return new Date(Date.UTC(2000 + (year % 400), month, 0)).getUTCDate()
}

function offsetMinutes(offset: string): number {
  if (offset.length === 1) return 0
  const minutes = Number(offset.slice(1, 3)) * 60 + Number(offset.slice(4))
  return offset.startsWith('-') ? -minutes : minutes
}

function isStartOfMonth(instant: Date): boolean {
  return instant.getUTCDate() === 1 && instant.getTime() % 86_400_000 === 0
}
