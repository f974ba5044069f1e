import type { Ajv, FuncKeywordDefinition } from 'ajv'
import { isSchema, mapParts, type Schema } from './schema-parts.ts'

// In request bodies, null means that an optional member is absent. Many programs write every member of a record, and null for those
// without a value. If the schema of a member accepts null, null has a meaning there, and stays.

/** The members of an object that may be null: their names. */
const KEYWORD = 'nullIsAbsent'

const DEFINITION: FuncKeywordDefinition = {
  keyword: KEYWORD,
  type: 'object',
  schemaType: 'array',
  // The first keyword for objects: the others then see no such member.
  before: 'maxProperties',
  modifying: true,
  valid: true,
  compile: (names: readonly string[]) => (members: Record<string, unknown>) => {
    for (const name of names) if (members[name] === null) delete members[name]
    return true
  },
}

/** Teaches ajv the schemas of `nullsAbsent`. */
export function addNullMembers(ajv: Ajv): Ajv {
  return ajv.addKeyword(DEFINITION)
}

/** Copies a schema so that its validation removes each optional member that is null, unless the schema of the member accepts null. */
export function nullsAbsent(schema: object): object {
  return absent(schema as Schema)
}

function absent(schema: Schema): Schema {
  const copy = mapParts(schema, absent)
  const { properties, required = [] } = schema
  if (schema.type !== 'object' || !isSchema(properties)) return copy
  const names = Object.entries(properties)
    .filter(([name, part]) => !(required as readonly string[]).includes(name) && !acceptsNull(part))
    .map(([name]) => name)
  return names.length === 0 ? copy : { ...copy, [KEYWORD]: names }
}

function acceptsNull(schema: unknown): boolean {
  if (!isSchema(schema)) return schema === true
  const { type, anyOf, oneOf, const: value, enum: values } = schema
  for (const parts of [anyOf, oneOf]) if (Array.isArray(parts)) return parts.some(acceptsNull)
  if (Array.isArray(values)) return values.includes(null)
  if ('const' in schema) return value === null
  return type === undefined || [type].flat().includes('null')
}

/** Converts a schema of `nullsAbsent` to plain JSON Schema, for the OpenAPI document: its optional members accept null. */
export function nullsShown(schema: object): object {
  return shown(schema as Schema)
}

function shown(schema: Schema): Schema {
  const { [KEYWORD]: names, ...copy } = mapParts(schema, shown)
  if (!Array.isArray(names) || !isSchema(copy.properties)) return copy
  const optional = new Set<unknown>(names)
  const properties = Object.entries(copy.properties).map(([name, part]) => [
    name,
    optional.has(name) && isSchema(part) ? orNull(part) : part,
  ])
  return { ...copy, properties: Object.fromEntries(properties) }
}

function orNull(schema: Schema): Schema {
  const { type, anyOf, enum: values } = schema
  if (Array.isArray(anyOf)) return { ...schema, anyOf: [...anyOf, { type: 'null' }] }
  if (type === undefined || 'const' in schema) {
    const { description, ...rest } = schema
    return { anyOf: [rest, { type: 'null' }], ...(description !== undefined && { description }) }
  }
  return { ...schema, type: [type, 'null'].flat(), ...(Array.isArray(values) && { enum: [...values, null] }) }
}
