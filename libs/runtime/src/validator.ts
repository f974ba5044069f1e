import { Ajv, type Options } from 'ajv'
import { type AjvError, faultsOf } from './faults.ts'
import { addNullMembers, nullsAbsent } from './null-members.ts'
import type { Fault } from './problem.ts'
import { isSchema, mapParts, type Schema } from './schema-parts.ts'

const STRICT: Options = {
  allErrors: true,
  coerceTypes: false,
  removeAdditional: false,
  useDefaults: true,
  strict: true,
  strictTypes: false,
  strictRequired: false,
  strictTuples: false,
  unicodeRegExp: true,
}

/** For bodies and log records, whose values are not converted. */
export const bodyAjv = addNullMembers(new Ajv(STRICT))
/** For query strings and paths: all values are text, and a list with one element looks like a single value. */
export const textAjv = new Ajv({
  ...STRICT,
  coerceTypes: 'array',
  // In strict mode ajv skips the bounds of a number that is not finite, and parses 1e309 as one. `bounded` requires bounds.
  strictNumbers: false,
})

/**
 * Returns a function that lists the faults of a value, at most 50; none if it conforms to `schema`. Unknown members are faults
 * unless the schema allows them.
 */
export function createValidator(schema: object): (value: unknown) => readonly Fault[] {
  return compiled(closed(schema))
}

/** The same for request bodies, or parts of them. It removes optional members that are null from the value: see `nullsAbsent`. */
export function createBodyValidator(schema: object): (value: unknown) => readonly Fault[] {
  return compiled(closedBody(schema))
}

function compiled(schema: object): (value: unknown) => readonly Fault[] {
  const validate = bodyAjv.compile(schema)
  return (value) => (validate(value) ? [] : faultsOf((validate.errors ?? []) as readonly AjvError[]))
}

/**
 * Copies a schema so that every object refuses unknown members, unless it sets `additionalProperties`: a misspelt member must
 * not be taken for an absent one. The parts of an `allOf` stay open, because each would refuse the members of the others.
 */
export function closed(schema: object): object {
  return close(schema as Schema)
}

/** The same for the schema of a body, in which null means that an optional member is absent. */
export function closedBody(schema: object): object {
  return nullsAbsent(closed(schema))
}

function close(schema: Schema): Schema {
  refuseSlow(schema)
  const copy = mapParts(schema, close)
  const open = schema.additionalProperties === undefined && schema.unevaluatedProperties === undefined
  if (schema.type === 'object' && isSchema(schema.properties) && open) copy.additionalProperties = false
  return copy
}

/** Requires bounds for every number in a schema of texts: only bounds catch a text such as 1e309, which is parsed as Infinity. */
export function bounded(schema: object): object {
  const { properties = {} } = schema as { readonly properties?: Readonly<Record<string, Schema>> }
  for (const [name, { type, minimum, maximum }] of Object.entries(properties)) {
    if ((type === 'integer' || type === 'number') && (minimum === undefined || maximum === undefined))
      throw new Error(`the parameter ${name} is a number and needs a minimum and a maximum`)
  }
  return schema
}

/** Refuses `uniqueItems` for items that are not of one scalar type: all pairs are compared, for minutes if the body is large. */
function refuseSlow({ uniqueItems, items }: Schema): void {
  const type = isSchema(items) ? items.type : undefined
  if (uniqueItems === true && (typeof type !== 'string' || type === 'object' || type === 'array')) {
    throw new Error('uniqueItems needs items of one scalar type')
  }
}
