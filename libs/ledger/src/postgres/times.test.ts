import { expect, test } from 'vitest'
import { UnwritableValueError } from './faults.ts'
import { timeText, toTime } from './times.ts'

// Goal: every time read from PostgreSQL can be written back, and PostgreSQL reads every written time as the same time.

test.each([
  ['infinity', Number.POSITIVE_INFINITY, '9999-12-31T23:59:59.999Z'],
  ['-infinity', Number.NEGATIVE_INFINITY, '0001-01-01T00:00:00.000Z'],
  ['294276-12-31 23:59:59.999999+00', new Date(Number.NaN), '9999-12-31T23:59:59.999Z'],
  ['4713-01-01 00:00:00+00 BC', new Date(Number.NaN), '0001-01-01T00:00:00.000Z'],
  ['275760-01-01 00:00:00+00', new Date(8.64e15), '9999-12-31T23:59:59.999Z'],
  ['0044-03-15 12:00:00+00 BC', new Date(-63_517_737_600_000), '0001-01-01T00:00:00.000Z'],
  ['2026-11-21 05:00:00+00', new Date('2026-11-21T05:00:00Z'), '2026-11-21T05:00:00.000Z'],
])('%s is read as a writable time', (text, parsed, written) => {
  const time = toTime(parsed, text)
  expect([time.toISOString(), timeText(time)]).toEqual([written, written])
})

test.each([Number.NaN, 8.64e15, -8.64e15, Date.parse('0000-12-31T23:59:59.999Z')])(
  'a time of %d ms is refused as an unwritable value',
  (ms) => {
    expect(() => timeText(new Date(ms))).toThrow(UnwritableValueError)
  },
)
