import { createValidator } from '@curfew/runtime'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Instant, parseInstant } from './instant.ts'

// Goal: a time is read if and only if RFC 3339 section 5.6 has it. Method: examples, and random texts near the grammar, compared with
// a calendar and a grammar of the test's own.

describe('a time', () => {
  test.each([
    ['2026-11-21T12:00:00Z', '2026-11-21T12:00:00.000Z'],
    ['2026-11-21T14:00:00.5+02:00', '2026-11-21T12:00:00.500Z'],
    ['2026-11-21t12:00:00z', '2026-11-21T12:00:00.000Z'],
    ['2026-11-21T12:00:00-00:00', '2026-11-21T12:00:00.000Z'],
    ['2026-11-21T12:00:00+23:59', '2026-11-20T12:01:00.000Z'],
    ['2026-11-21T12:00:00.1234567890123456789Z', '2026-11-21T12:00:00.123Z'],
    ['2026-11-21T12:00:00.9999Z', '2026-11-21T12:00:00.999Z'],
    ['2024-02-29T00:00:00Z', '2024-02-29T00:00:00.000Z'],
    ['2000-02-29T00:00:00Z', '2000-02-29T00:00:00.000Z'],
    ['0000-02-29T00:00:00Z', '0000-02-29T00:00:00.000Z'],
    ['0099-01-01T00:00:00Z', '0099-01-01T00:00:00.000Z'],
    // The day must exist in the offset of the text, not in UTC.
    ['2026-02-28T23:30:00-01:00', '2026-03-01T00:30:00.000Z'],
    ['1998-12-31T23:59:60Z', '1999-01-01T00:00:00.000Z'],
    ['1998-12-31T23:59:60.75Z', '1999-01-01T00:00:00.750Z'],
    ['1998-12-31T15:59:60-08:00', '1999-01-01T00:00:00.000Z'],
    ['2026-02-29T00:00:00Z', null],
    ['2100-02-29T00:00:00Z', null],
    ['2026-04-31T00:00:00Z', null],
    ['2026-00-01T00:00:00Z', null],
    ['2026-01-00T00:00:00Z', null],
    ['2026-01-01T24:00:00Z', null],
    ['2026-01-01T00:00:00+24:00', null],
    ['2026-01-01T00:00:00+02:60', null],
    ['2026-01-01T00:60:00Z', null],
    ['2026-01-01T00:00:61Z', null],
    // Leap seconds end a month in UTC.
    ['2026-12-30T23:59:60Z', null],
    ['2026-12-31T22:59:60Z', null],
    ['2026-12-31T23:59:60-08:00', null],
    ['2026-01-01 00:00:00Z', null],
    ['2026-01-01T00:00:00', null],
    ['2026-01-01T00:00Z', null],
    ['2026-01-01', null],
    ['2026-01-01T00:00:00.Z', null],
    ['2026-01-01T00:00:00,5Z', null],
    ['2026-01-01T00:00:00+0200', null],
    ['2026-01-01T00:00:00+02', null],
    ['2026-01-01T00:00:00\u221202:00', null],
    ['2026-01-01T00:00:00Z\n', null],
    [' 2026-01-01T00:00:00Z', null],
    ['12026-01-01T00:00:00Z', null],
    ['+002026-01-01T00:00:00Z', null],
    ['\u0662026-01-01T00:00:00Z', null],
    [`2026-01-01T00:00:00.${'1'.repeat(100)}Z`, null],
  ])('%j is read as %s', (text, expected) => {
    expect(parseInstant(text)?.toISOString() ?? null).toBe(expected)
  })

  test('is read if and only if the grammar and the calendar have it', () => {
    const seen = { read: 0, refused: 0 }
    fc.assert(
      fc.property(parts, (of) => {
        const text = write(of)
        const expected = reference(of)
        const instant = parseInstant(text)
        expect(instant?.getTime() ?? null).toBe(expected)
        // The schema may only be wider by days and leap seconds that do not exist.
        if (expected !== null) expect(check(text)).toEqual([])
        seen[expected === null ? 'refused' : 'read'] += 1
      }),
      { numRuns: 5_000 },
    )
    expect(Math.min(seen.read, seen.refused)).toBeGreaterThan(500)
  })
})

const check = createValidator(Instant)

interface Parts {
  readonly year: number
  readonly month: number
  readonly day: number
  readonly hour: number
  readonly minute: number
  readonly second: number
  readonly separator: string
  readonly fraction: string
  readonly offset: { readonly text: string; readonly minutes: number | null }
}

/** Mostly values within `max`, sometimes just outside. */
const near = (min: number, max: number, ...often: readonly number[]) =>
  fc.oneof(
    { weight: 12, arbitrary: fc.integer({ min, max }) },
    { weight: 3, arbitrary: fc.constantFrom(min, max, ...often) },
    { weight: 1, arbitrary: fc.constantFrom(Math.max(0, min - 1), max + 1) },
  )
const two = (number: number) => String(number).padStart(2, '0')
const offset = fc.oneof(
  fc.constantFrom({ text: 'Z', minutes: 0 }, { text: 'z', minutes: 0 }, { text: '-00:00', minutes: 0 }),
  fc
    .record({ sign: fc.constantFrom(1, -1), hours: near(0, 23), minutes: near(0, 59) })
    .map(({ sign, hours, minutes }) => ({
      text: `${sign < 0 ? '-' : '+'}${two(hours)}:${two(minutes)}`,
      minutes: hours > 23 || minutes > 59 ? null : sign * (hours * 60 + minutes),
    })),
  fc.constantFrom('', '+02', '+0200', 'UTC', ' 02:00').map((text) => ({ text, minutes: null })),
)
const usual: fc.Arbitrary<Parts> = fc.record({
  year: fc.oneof(fc.constantFrom(0, 4, 100, 1900, 2000, 2024, 2100, 9999), fc.integer({ min: 0, max: 9999 })),
  month: near(1, 12, 2),
  day: near(1, 31, 28, 29, 30),
  hour: near(0, 23),
  minute: near(0, 59),
  second: near(0, 59, 60),
  separator: fc.constantFrom('T', 'T', 'T', 't', ' ', '_'),
  fraction: fc.oneof(
    fc.constantFrom('', '', '.0', '.', ',5'),
    fc.stringMatching(/^\.\d{1,38}$/),
    fc.stringMatching(/^\.\d{60,70}$/),
  ),
  offset,
})
/** Leap seconds at the end of a month in UTC, or close by, in any offset. */
const leap: fc.Arbitrary<Parts> = fc
  .record({ of: usual, apart: fc.constantFrom(0, 0, 0, 60, -60, 86_400) })
  .map(({ of, apart }) => {
    const local =
      Date.UTC(2000 + (of.year % 100), of.month % 12, 1) + (of.offset.minutes ?? 0) * 60_000 - 1_000
    const at = new Date(local + apart * 1_000)
    return {
      ...{ ...of, year: at.getUTCFullYear(), month: at.getUTCMonth() + 1, day: at.getUTCDate() },
      ...{ hour: at.getUTCHours(), minute: at.getUTCMinutes(), second: 60 },
    }
  })
const parts = fc.oneof({ weight: 5, arbitrary: usual }, { weight: 1, arbitrary: leap })

function write({ year, month, day, hour, minute, second, separator, fraction, offset: zone }: Parts): string {
  const date = `${String(year).padStart(4, '0')}-${two(month)}-${two(day)}`
  return `${date}${separator}${two(hour)}:${two(minute)}:${two(second)}${fraction}${zone.text}`
}

/** The instant in milliseconds; null if there is none. */
function reference(of: Parts): number | null {
  const { year, month, day, hour, minute, second, separator, fraction } = of
  const { minutes } = of.offset
  if (minutes === null || separator.toUpperCase() !== 'T' || write(of).length > 64) return null
  if (fraction !== '' && !(fraction.startsWith('.') && fraction.length > 1)) return null
  if (month < 1 || month > 12 || day < 1 || day > lengthOf(year, month)) return null
  if (hour > 23 || minute > 59 || second > 60) return null
  const minutesUtc = dayNumber(year, month, day) * 1_440 + hour * 60 + minute - minutes
  if (second === 60 && !MONTH_STARTS.has((minutesUtc + 1) / 1_440)) return null
  return (minutesUtc * 60 + second) * 1_000 + Math.floor(Number(`0${fraction || '.0'}`) * 1_000 + 1e-9)
}

const isLeapYear = (year: number) => year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0)
const lengthOf = (year: number, month: number) =>
  month === 2 ? (isLeapYear(year) ? 29 : 28) : [4, 6, 9, 11].includes(month) ? 30 : 31

/** The number of days from 1970-01-01, counted month by month. */
function dayNumber(year: number, month: number, day: number): number {
  return (STARTS.get(year * 12 + month) ?? Number.NaN) + day - 1
}
const STARTS = new Map<number, number>()
for (let days = -719_528, month = 0; month <= 12 * 10_000; month++) {
  STARTS.set(month + 1, days)
  days += lengthOf(Math.floor(month / 12), (month % 12) + 1)
}
const MONTH_STARTS = new Set(STARTS.values())
