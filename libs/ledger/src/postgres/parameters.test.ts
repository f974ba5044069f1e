import { expect, test } from 'vitest'
import { namedParameters, rowParameters } from './parameters.ts'

interface Row {
  readonly id: string
  readonly name: string | null
  readonly at: Date | null
}

const ONE = namedParameters({ now: 'timestamptz', worker: 'uuid' })
const ROWS = rowParameters<Row>(
  {
    id: ['uuid', ({ id }) => id],
    state: ['word', () => 'pending'],
    name: ['text', ({ name }) => name],
    at: ['timestamptz', ({ at }) => at],
  },
  { after: ONE },
)

test('single values are numbered in the order of their types, regardless of the order of the values', () => {
  expect(ONE.$).toEqual({ now: '$1::timestamptz', worker: '$2::uuid' })
  expect(ONE.list).toBe('$1::timestamptz, $2::uuid')
  expect(ONE.values({ worker: 'w', now: 'n' })).toEqual(['n', 'w'])
})

test('the columns of rows are numbered after the preceding parameters', () => {
  expect(ROWS.as('r')).toBe(
    'unnest($3::uuid[], $4::text[], $5::text[], $6::timestamptz[]) as r(id, state, name, at)',
  )
  expect(ROWS.placedAs('r')).toBe(
    'unnest($3::uuid[], $4::text[], $5::text[], $6::timestamptz[]) with ordinality as r(id, state, name, at, place)',
  )
  expect(ROWS.last).toBe(6)
})

test('pg quotes only texts, and a column without any value is empty', () => {
  const rows = [
    { id: 'a', name: 'x,"y', at: null },
    { id: 'b', name: null, at: null },
  ]
  expect(ROWS.values(rows)).toEqual(['{a,b}', '{pending,pending}', ['x,"y', null], '{}'])
  expect(ROWS.values([{ id: 'a', name: null, at: new Date(0) }])).toEqual([
    '{a}',
    '{pending}',
    [],
    '{1970-01-01T00:00:00.000Z}',
  ])
})
