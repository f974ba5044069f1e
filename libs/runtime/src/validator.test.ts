import { type TSchema, Type } from 'typebox'
import { describe, expect, test } from 'vitest'
import { createValidator } from './validator.ts'

const faults = (schema: TSchema, value: unknown) =>
  createValidator(schema)(value).map(({ pointer, detail }) => `${pointer}: ${detail}`)

test.each([
  [Type.String({ minLength: 1 }), '', 'must not be empty'],
  [Type.String({ minLength: 2 }), 'a', 'must have at least 2 characters'],
  [Type.String({ maxLength: 1 }), 'ab', 'must have at most 1 character'],
  [Type.String({ pattern: '^a$' }), 'b', 'must match the pattern ^a$'],
  [
    Type.String({ pattern: '^(\\d{4})-(0[1-9]|1[0-2])-\\d{2}T\\d{2}:\\d{2}:\\d{2}Z$' }),
    'yesterday',
    'must be an RFC 3339 time such as 2026-01-31T12:00:00Z',
  ],
  [Type.String({ pattern: '^[^\\s@]+@[^\\s@]+$' }), 'ann', 'must be an email address'],
  [
    Type.String({ pattern: '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$' }),
    'on call',
    'must be at most 63 of a-z, 0-9 and hyphens, with no hyphen at either end',
  ],
  [Type.Array(Type.Null(), { maxItems: 2 }), [null, null, null], 'must have at most 2 items'],
  [
    Type.Array(Type.String(), { uniqueItems: true }),
    ['a', 'b', 'a'],
    'must not have the same item twice (items 0 and 2)',
  ],
  [Type.Number({ exclusiveMaximum: 1 }), 1, 'must be less than 1'],
  [Type.Integer({ minimum: 1 }), 0, 'must be at least 1'],
  [Type.Integer(), 1.5, 'must be a whole number'],
  [Type.Boolean(), 'true', 'must be true or false'],
  [Type.Literal('on'), 'off', 'must be "on"'],
  [Type.Union([Type.String(), Type.Null()]), 1, 'must be a string or null'],
  [Type.Union([Type.Literal('a'), Type.Literal('b'), Type.Null()]), 1, 'must be "a", "b" or null'],
  [
    Type.Union([Type.Union([Type.Literal(1), Type.Literal(2)]), Type.String()]),
    true,
    'must be 1, 2 or a string',
  ],
])('a fault of schema %# is described in plain words', (schema, value, detail) => {
  expect(faults(schema, value)).toEqual([`: ${detail}`])
})

test('the faults of a union are those of the nearest branch', () => {
  const Event = Type.Object({
    id: Type.String(),
    lane: Type.Optional(Type.Union([Type.Literal('a'), Type.Literal('b')])),
  })
  const OneOrMany = Type.Union([Event, Type.Array(Event)])
  expect(faults(OneOrMany, { id: 1 })).toEqual(['/id: must be a string'])
  expect(faults(OneOrMany, [{ id: 'x' }, { lane: 'c' }])).toEqual([
    '/1/id: is missing',
    '/1/lane: must be "a" or "b"',
  ])
  expect(faults(OneOrMany, 'x')).toEqual([': must be an object or an array'])
  expect(faults(OneOrMany, [])).toEqual([])
})

test('each of several unions has its own faults', () => {
  const required = (...names: string[]) => ({ required: names })
  const both = Type.Unsafe<object>({
    type: 'object',
    allOf: [{ anyOf: [required('a'), required('b', 'c')] }, { anyOf: [required('d'), required('e', 'f')] }],
  })
  expect(faults(both, {})).toEqual(['/a: is missing', '/d: is missing'])
})

test('a fault that many items share is reported for each of them', () => {
  const schema = Type.Array(Type.Union([Type.Literal('a'), Type.Literal('b')]))
  const value = Array.from({ length: 12 }, (_, index) => (index === 5 ? 'a' : 'c'))
  expect(faults(schema, value)).toHaveLength(11)
  expect(faults(schema, value)).toContain('/11: must be "a" or "b"')
})

describe('unknown members', () => {
  test('are refused at every depth by default', () => {
    const schema = Type.Object({ list: Type.Array(Type.Object({ a: Type.Optional(Type.String()) })) })
    expect(faults(schema, { list: [{ a: 'x' }, { b: 1 }], more: 1 })).toEqual([
      '/more: is not a known member',
      '/list/1/b: is not a known member',
    ])
  })

  test('are accepted where the schema allows them, or names them by pattern or in parts', () => {
    expect(
      faults(Type.Object({ a: Type.String() }, { additionalProperties: true }), { a: '', b: 1 }),
    ).toEqual([])
    expect(faults(Type.Record(Type.String(), Type.Integer()), { any: 1 })).toEqual([])
    const parts = Type.Unsafe<object>({
      allOf: [Type.Object({ a: Type.String() }), Type.Object({ b: Type.String() })],
    })
    expect(faults(parts, { a: '', b: '' })).toEqual([])
  })
})

test('a value is never converted to the expected type', () => {
  const value = { size: '3' }
  expect(faults(Type.Object({ size: Type.Integer() }), value)).toEqual(['/size: must be a whole number'])
  expect(value).toEqual({ size: '3' })
})

test('a schema that would be slow on a large body is refused when it is compiled', () => {
  const schema = Type.Array(Type.Object({ a: Type.String() }), { uniqueItems: true })
  expect(() => createValidator(schema)).toThrow('uniqueItems needs items of one scalar type')
})

test('at most 50 faults of a value are reported', () => {
  const schema = Type.Array(Type.Union([Type.String({ pattern: '^a$' }), Type.Null()]))
  expect(
    faults(
      schema,
      Array.from({ length: 50_000 }, () => 7),
    ),
  ).toHaveLength(50)
})
