import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

// The types of the HTTP API without their schemas, for a published package: an app does not need the schema library to read them.

/** The used part of JSON Schema. */
interface Schema {
  readonly type?: string
  readonly description?: string
  readonly const?: string | number | boolean
  readonly enum?: readonly unknown[]
  readonly anyOf?: readonly Schema[]
  readonly items?: Schema
  readonly properties?: Readonly<Record<string, Schema>>
  readonly required?: readonly string[]
  readonly patternProperties?: Readonly<Record<string, Schema>>
}

const IMPORT = /(?:import|export) type \{([^}]*)\} from '@curfew\/contract'/g

/** The types that a package imports from the contract, or exports again. */
function importedNames(folder: string): readonly string[] {
  const names = new Set<string>()
  for (const file of globSync('src/**/*.ts', { cwd: folder })) {
    if (/\.(?:test|fixture)\.ts$/.test(file)) continue
    for (const [, list = ''] of readFileSync(join(folder, file), 'utf8').matchAll(IMPORT))
      for (const name of list.split(',')) if (name.trim() !== '') names.add(name.trim())
  }
  return [...names].sort()
}

async function schemasIn(contract: string): Promise<Readonly<Record<string, unknown>>> {
  const files = globSync('src/api/*.ts', { cwd: contract }).filter((file) => !file.endsWith('.test.ts'))
  const modules = await Promise.all(files.map((file) => import(pathToFileURL(join(contract, file)).href)))
  return Object.assign({}, ...modules)
}

/** Declares the types that the package in `folder` imports from the contract. @throws {Error} if one has no schema. */
export async function contractTypes(folder: string, contract: string): Promise<string> {
  const schemas = await schemasIn(contract)
  const types = importedNames(folder).map((name) => {
    const schema = schemas[name]
    if (typeof schema !== 'object')
      throw new Error(`The contract has no schema ${name}, which ${folder} imports.`)
    return `${comment(schema as Schema, '')}export type ${name} = ${typeOf(schema as Schema, '')}\n`
  })
  return types.join('\n')
}

const comment = ({ description }: Schema, indent: string) =>
  description === undefined ? '' : `/** ${description.replaceAll('*/', '* /')} */\n${indent}`

function typeOf(schema: Schema, indent: string): string {
  if (schema.const !== undefined) return literal(schema.const)
  if (schema.enum !== undefined) return schema.enum.map(literal).join(' | ')
  if (schema.anyOf !== undefined) return schema.anyOf.map((each) => typeOf(each, indent)).join(' | ')
  switch (schema.type) {
    case 'object':
      return objectType(schema, indent)
    case 'array':
      return `Array<${typeOf(schema.items ?? {}, indent)}>`
    case 'integer':
      return 'number'
    case undefined:
      return 'unknown'
    default:
      return schema.type
  }
}

const literal = (value: unknown) =>
  typeof value === 'string' ? `'${value.replaceAll(/['\\]/g, '\\$&')}'` : JSON.stringify(value)

function objectType({ properties, required = [], patternProperties }: Schema, indent: string): string {
  const inner = `${indent}  `
  if (patternProperties !== undefined) {
    const values = Object.values(patternProperties).map((each) => typeOf(each, indent))
    return `Record<string, ${values.join(' | ')}>`
  }
  const members = Object.entries(properties ?? {}).map(([name, schema]) => {
    const key = /^[A-Za-z_]\w*$/.test(name) ? name : literal(name)
    return `${inner}${comment(schema, inner)}${key}${required.includes(name) ? '' : '?'}: ${typeOf(schema, inner)}\n`
  })
  return members.length === 0 ? '{}' : `{\n${members.join('')}${indent}}`
}
