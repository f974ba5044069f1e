import fc from 'fast-check'
import { expect, test } from 'vitest'
import { UnwritableValueError } from './faults.ts'
import { timeText, toTime } from './times.ts'

// Goal: every time that comes from PostgreSQL can be written back, and every time is written so that PostgreSQL reads it.

test.each([
  ['infinity', Number.POSITIVE_INFINITY, '9999-12-31T23:59:59.999Z'],
  ['-infinity', Number.NEGATIVE_INFINITY, '0001-01-01T00:00:00.000Z'],
  ['294276-12-31 23:59:59.999999+00', new Date(Number.NaN), '9999-12-31T23:59:59.999Z'],
  ['4713-01-01 00:00:00+00 BC', new Date(Number.NaN), '0001-01-01T00:00:00.000Z'],
  ['275760-01-01 00:00:00+00', new Date(8.64e15), '9999-12-31T23:59:59.999Z'],
  ['0044-03-15 12:00:00+00 BC', new Date(-63_517_737_600_000), '0001-01-01T00:00:00.000Z'],
  ['2026-11-21 05:00:00+00', new Date('2026-11-21T05:00:00Z'), '2026-11-21T05:00:00.000Z'],
])('%s is a time', (text, parsed, written) => {
  expect(toTime(parsed, text).toISOString()).toBe(written)
})

test('any Date is written with a year of four digits', () => {
  fc.assert(
    fc.property(fc.date({ noInvalidDate: true }), (time) => {
      expect(timeText(time)).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
    }),
  )
})

test('an invalid Date is refused as a value is', () => {
  expect(() => timeText(new Date(Number.NaN))).toThrow(UnwritableValueError)
})
