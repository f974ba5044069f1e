import { Ajv, type Options } from 'ajv'
import { type AjvError, faultsOf } from './faults.ts'
import type { Fault } from './problem.ts'

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

/** For bodies and log records: what is given counts as it is. */
export const bodyAjv = new Ajv(STRICT)
/** For query strings and paths, where everything is text, and a list of one looks like the one. */
export const textAjv = new Ajv({
  ...STRICT,
  coerceTypes: 'array',
  // Ajv skips the bounds of a number that is not finite where it is strict, and reads 1e309 as one. `bounded` is the other half.
  strictNumbers: false,
})

/**
 * Gives the faults of a value, at most 50: none when it is what `schema` says. Settings and words are those of request
 * bodies: unknown members are faults unless the schema allows them.
 */
export function createValidator(schema: object): (value: unknown) => readonly Fault[] {
  const validate = bodyAjv.compile(closed(schema))
  return (value) => (validate(value) ? [] : faultsOf((validate.errors ?? []) as readonly AjvError[]))
}

type Schema = Readonly<Record<string, unknown>>

/**
 * The schema, in which every object that does not speak of `additionalProperties` refuses them: a misspelt member must not
 * pass for one left out. Parts of an `allOf` are left alone, for each would refuse the members of the others.
 */
export function closed(schema: object): object {
  return close(schema as Schema)
}

function close(schema: Schema): Schema {
  refuseSlow(schema)
  const copy: Record<string, unknown> = { ...schema }
  for (const name of ['items', 'additionalProperties'])
    if (isSchema(schema[name])) copy[name] = close(schema[name])
  for (const name of ['anyOf', 'oneOf', 'prefixItems']) {
    const parts = schema[name]
    if (Array.isArray(parts)) copy[name] = parts.map((part: unknown) => (isSchema(part) ? close(part) : part))
  }
  for (const name of ['properties', 'patternProperties', '$defs', 'definitions']) {
    const parts = schema[name]
    if (!isSchema(parts)) continue
    copy[name] = Object.fromEntries(
      Object.entries(parts).map(([key, part]) => [key, isSchema(part) ? close(part) : part]),
    )
  }
  const open = schema.additionalProperties === undefined && schema.unevaluatedProperties === undefined
  if (schema.type === 'object' && isSchema(schema.properties) && open) copy.additionalProperties = false
  return copy
}

/** A schema of texts, of which every number has bounds: what is read as Infinity (1e309) is found by them alone. */
export function bounded(schema: object): object {
  const { properties = {} } = schema as { readonly properties?: Readonly<Record<string, Schema>> }
  for (const [name, { type, minimum, maximum }] of Object.entries(properties)) {
    if ((type === 'integer' || type === 'number') && (minimum === undefined || maximum === undefined))
      throw new Error(`the parameter ${name} is a number and needs a minimum and a maximum`)
  }
  return schema
}

/** `uniqueItems` compares each item with each other unless all are of one scalar type: a large body would take minutes. */
function refuseSlow({ uniqueItems, items }: Schema): void {
  const type = isSchema(items) ? items.type : undefined
  if (uniqueItems === true && (typeof type !== 'string' || type === 'object' || type === 'array')) {
    throw new Error('uniqueItems needs items of one scalar type')
  }
}

function isSchema(value: unknown): value is Schema {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
