/** A JSON Schema. */
export type Schema = Readonly<Record<string, unknown>>

const ONE = ['items', 'additionalProperties']
const LISTS = ['anyOf', 'oneOf', 'prefixItems']
const NAMED = ['properties', 'patternProperties', '$defs', 'definitions']

/** Copies a schema with `map` applied to each schema directly in it. The parts of an `allOf` stay as they are. */
export function mapParts(schema: Schema, map: (part: Schema) => Schema): Record<string, unknown> {
  const copy: Record<string, unknown> = { ...schema }
  const mapped = (part: unknown) => (isSchema(part) ? map(part) : part)
  for (const name of ONE) if (isSchema(schema[name])) copy[name] = map(schema[name])
  for (const name of LISTS) {
    const parts = schema[name]
    if (Array.isArray(parts)) copy[name] = parts.map(mapped)
  }
  for (const name of NAMED) {
    const parts = schema[name]
    if (!isSchema(parts)) continue
    copy[name] = Object.fromEntries(Object.entries(parts).map(([key, part]) => [key, mapped(part)]))
  }
  return copy
}

export function isSchema(value: unknown): value is Schema {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
