import fc from 'fast-check'
import { Type } from 'typebox'
import { expect, test } from 'vitest'
import { nullsAbsent, nullsShown } from './null-members.ts'
import { closed, createBodyValidator, createValidator } from './validator.ts'

// Goal: in a body, null means that an optional member is absent, at any depth. Method: examples, and random schemas with a valid value
// to which nulls are added.

const check = (schema: object, value: unknown) =>
  createBodyValidator(schema)(value).map(({ pointer, detail }) => `${pointer}: ${detail}`)

const BODY = Type.Object({
  name: Type.String(),
  size: Type.Optional(Type.Integer()),
  until: Type.Union([Type.String(), Type.Null()]),
  kind: Type.Optional(Type.Union([Type.Literal('a'), Type.Literal('b')])),
  quota: Type.Optional(Type.Union([Type.Integer(), Type.Null()])),
  kept: Type.Optional(Type.Unknown()),
  parts: Type.Optional(Type.Array(Type.Object({ id: Type.String(), note: Type.Optional(Type.String()) }))),
  labels: Type.Optional(Type.Record(Type.String(), Type.String())),
})

test('an optional member that is null is removed, also in parts of the body', () => {
  const body = {
    name: 'x',
    until: 'y',
    size: null,
    kind: null,
    parts: [{ id: '1', note: null }],
    labels: null,
  }
  expect(check(BODY, body)).toEqual([])
  expect(body).toEqual({ name: 'x', until: 'y', parts: [{ id: '1' }] })
})

test('null stays where the schema gives it a meaning', () => {
  const body = { name: 'x', until: null, quota: null, kept: null }
  expect(check(BODY, body)).toEqual([])
  expect(body).toEqual({ name: 'x', until: null, quota: null, kept: null })
})

test('null is a fault for a required member, an item of a list, an unknown member, and a member of a map', () => {
  const good = { name: 'x', until: 'y' }
  expect(check(BODY, { until: 'y', name: null })).toEqual(['/name: must be a string'])
  expect(check(BODY, { ...good, parts: [null] })).toEqual(['/parts/0: must be an object'])
  expect(check(BODY, { ...good, parts: [{ id: null }] })).toEqual(['/parts/0/id: must be a string'])
  expect(check(BODY, { ...good, sise: null })).toEqual(['/sise: is not a known member'])
  expect(check(BODY, { ...good, labels: { a: null } })).toEqual(['/labels/a: must be a string'])
})

test('a member that is null does not count as one of the required number of members', () => {
  const schema = Type.Partial(Type.Object({ a: Type.Integer(), b: Type.Integer() }), { minProperties: 1 })
  expect(check(schema, { a: null, b: 1 })).toEqual([])
  expect(check(schema, { a: null })).toEqual([': must have at least 1 member'])
})

test('each form of a union accepts its optional members as null', () => {
  const one = Type.Object({ a: Type.String(), more: Type.Optional(Type.Integer()) })
  const schema = Type.Union([one, Type.Array(one)])
  for (const body of [{ a: 'x', more: null }, [{ a: 'x' }, { a: 'y', more: null }]]) {
    expect(check(schema, body)).toEqual([])
    expect(JSON.stringify(body)).not.toContain('null')
  }
})

test('a value that is not a body is refused with null in an optional member', () => {
  expect(createValidator(BODY)({ name: 'x', until: 'y', size: null })).toEqual([
    { pointer: '/size', detail: 'must be a whole number' },
  ])
})

/** A schema, a valid value of it, and the same value with nulls for absent optional members. */
interface Case {
  readonly schema: object
  readonly value: unknown
  readonly withNulls: unknown
}

const LEAVES: readonly fc.Arbitrary<Case>[] = [
  fc.string().map((value) => leaf({ type: 'string' }, value)),
  fc.integer().map((value) => leaf({ type: 'integer' }, value)),
  fc.boolean().map((value) => leaf({ type: 'boolean' }, value)),
  fc.constantFrom('a', 'b').map((value) => leaf({ type: 'string', enum: ['a', 'b'] }, value)),
  fc.constantFrom('a', 'b').map((value) => leaf({ anyOf: [{ const: 'a' }, { const: 'b' }] }, value)),
  fc.constant(leaf({ const: 'x' }, 'x')),
  fc.option(fc.string()).map((value) => leaf({ type: ['string', 'null'] }, value)),
  fc.option(fc.string()).map((value) => leaf({ anyOf: [{ type: 'string' }, { type: 'null' }] }, value)),
]

function leaf(schema: object, value: unknown): Case {
  return { schema, value, withNulls: value }
}

const acceptsNull = (schema: object) => createValidator(schema)(null).length === 0

const { node } = fc.letrec<{ node: Case }>((tie) => {
  const member = fc.record({
    of: tie('node'),
    optional: fc.boolean(),
    given: fc.constantFrom('value', 'value', 'null', 'absent'),
  })
  const object = fc
    .dictionary(fc.constantFrom('a', 'b', 'c', 'd', 'e'), member, { noNullPrototype: true })
    .map((members): Case => {
      const all = Object.entries(members)
      const membersOf = (nulls: boolean) =>
        Object.fromEntries(
          all.flatMap(([name, { of, optional, given }]) => {
            if (!optional || given === 'value') return [[name, nulls ? of.withNulls : of.value]]
            return nulls && given === 'null' && !acceptsNull(of.schema) ? [[name, null]] : []
          }),
        )
      return {
        schema: {
          type: 'object',
          properties: Object.fromEntries(all.map(([name, { of }]) => [name, of.schema])),
          required: all.filter(([, { optional }]) => !optional).map(([name]) => name),
        },
        value: membersOf(false),
        withNulls: membersOf(true),
      }
    })
  const list = tie('node').map(
    ({ schema, value, withNulls }): Case => ({
      schema: { type: 'array', items: schema },
      value: [value, value],
      withNulls: [withNulls, value],
    }),
  )
  return { node: fc.oneof({ depthSize: 'small' }, ...LEAVES, object, object, object, list) }
})

test('a valid body with nulls for absent members is the same body, and the document for callers allows it', () => {
  let added = 0
  fc.assert(
    fc.property(node, ({ schema, value, withNulls }) => {
      const body = structuredClone(withNulls)
      expect(createBodyValidator(schema)(body)).toEqual([])
      expect(body).toEqual(value)
      const forCallers = nullsShown(nullsAbsent(closed(schema)))
      expect(JSON.stringify(forCallers)).not.toContain('nullIsAbsent')
      expect(createValidator(forCallers)(structuredClone(withNulls))).toEqual([])
      if (JSON.stringify(value) !== JSON.stringify(withNulls)) added += 1
    }),
    { numRuns: 1_000 },
  )
  expect(added).toBeGreaterThan(50)
})
