import { expect, test } from 'vitest'
import { table } from './table.ts'

// Goal: a person can read tables on a terminal, and grep finds rows in them elsewhere.

const ROWS = [
  ['ID', 'SCOPES', 'SENT', 'LAST USED (UTC)'],
  ['01a1feb6', 'clients:read clients:write ledger:read', 7, 'never'],
  ['01a1feb7', 'admin', 12, '2026-11-21 15:22'],
]

test('without a terminal each row is one line, with numbers aligned to the right', () => {
  expect(table(ROWS, Number.POSITIVE_INFINITY).split('\n')).toEqual([
    'ID        SCOPES                                  SENT  LAST USED (UTC)',
    '01a1feb6  clients:read clients:write ledger:read     7  never',
    '01a1feb7  admin                                     12  2026-11-21 15:22',
    '',
  ])
})

test('on a terminal the widest column is wrapped between words', () => {
  expect(table(ROWS, 62).split('\n')).toEqual([
    'ID        SCOPES                        SENT  LAST USED (UTC)',
    '01a1feb6  clients:read clients:write       7  never',
    '          ledger:read',
    '01a1feb7  admin                           12  2026-11-21 15:22',
    '',
  ])
})

test('a cell without spaces is not wrapped, so that it can be copied', () => {
  const kid = 'vwb3UoLpB14jo8g51lr1V41bdfYQQyz49ql4ilzyQfQ'
  expect(table([['KID'], [kid]], 20)).toBe(`KID\n${kid}\n`)
})
