import { Ajv, type ErrorObject, type Options } from 'ajv'
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
/** For query strings and paths, where everything is text. */
export const textAjv = new Ajv({ ...STRICT, coerceTypes: true })

/** Gives the faults of a value: none when it is what `schema` says. The same settings and words as for request bodies. */
export function createValidator(schema: object): (value: unknown) => readonly Fault[] {
  const validate = bodyAjv.compile(schema)
  return (value) => (validate(value) ? [] : faultsOf(validate.errors ?? []))
}

/** Ajv's errors in words, each with a pointer to the member that is to be changed. */
export function faultsOf(errors: readonly ErrorObject[]): readonly Fault[] {
  const faults = errors.map(faultOf)
  // Of a union each branch complains; one line says as much.
  return faults.filter(({ pointer, detail }, index) =>
    faults.slice(0, index).every((earlier) => earlier.pointer !== pointer || earlier.detail !== detail),
  )
}

function faultOf({ instancePath, keyword, params, message }: ErrorObject): Fault {
  const at = (pointer: string, detail: string): Fault => ({ pointer, detail })
  const member = (name: unknown) =>
    `${instancePath}/${String(name).replaceAll('~', '~0').replaceAll('/', '~1')}`
  switch (keyword) {
    case 'required':
      return at(member(params.missingProperty), 'is missing')
    case 'additionalProperties':
      return at(member(params.additionalProperty), 'is not a known member')
    case 'const':
    case 'enum':
    case 'anyOf':
      return at(instancePath, 'is not one of the values that it may have')
    case 'type':
      return at(instancePath, `must be of type ${String(params.type)}`)
    case 'pattern':
      return at(instancePath, `does not have the form that it must: ${String(params.pattern)}`)
    case 'maxLength':
      return at(instancePath, `must have at most ${String(params.limit)} characters`)
    case 'minLength':
      return at(instancePath, `must have at least ${String(params.limit)} characters`)
    case 'maxItems':
      return at(instancePath, `must have at most ${String(params.limit)} items`)
    case 'minItems':
      return at(instancePath, `must have at least ${String(params.limit)} items`)
    case 'uniqueItems':
      return at(
        instancePath,
        `must not have the same item twice (items ${String(params.j)} and ${String(params.i)})`,
      )
    case 'minimum':
    case 'maximum':
    case 'exclusiveMinimum':
    case 'exclusiveMaximum':
      return at(instancePath, `must be ${String(params.comparison)} ${String(params.limit)}`)
    default:
      return at(instancePath, message ?? 'is not valid')
  }
}
