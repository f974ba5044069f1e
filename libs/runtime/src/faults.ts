import { FAULTS_MAX, type Fault } from './problem.ts'

/** The members of ajv's errors that we use. Fastify passes errors on with the same members. */
export interface AjvError {
  readonly keyword: string
  readonly instancePath: string
  readonly schemaPath: string
  readonly params: Readonly<Record<string, unknown>>
  readonly message?: string | undefined
}

/** Most errors that are examined: a hostile body may cause a hundred thousand. */
const ERRORS_MAX = 1_000
/** Longest member name that an answer repeats. */
const NAME_LENGTH_MAX = 128

interface Finding {
  readonly error: AjvError
  readonly fault: Fault
  /** The allowed kinds or values, if the value as a whole is of the wrong kind. */
  readonly alternatives: readonly string[]
}

/** Translates ajv's errors into plain words: at most 50, each with a pointer to the member to change. */
export function faultsOf(errors: readonly AjvError[]): readonly Fault[] {
  let findings: Finding[] = []
  for (const error of errors.slice(0, ERRORS_MAX)) {
    if (error.keyword === 'anyOf' || error.keyword === 'oneOf') findings = [...collapse(error, findings)]
    // A list of allowed values makes the fault of a wrong type superfluous.
    else if (supersedes(error, findings.at(-1)?.error)) findings[findings.length - 1] = findingOf(error)
    else findings.push(findingOf(error))
  }
  const faults = new Map(findings.map(({ fault }) => [`${fault.pointer} ${fault.detail}`, fault]))
  return [...faults.values()].slice(0, FAULTS_MAX)
}

/** Whether `error` lists the allowed values where `type`, of the same schema, names only their type. */
function supersedes(error: AjvError, type: AjvError | undefined): boolean {
  return (
    (error.keyword === 'const' || error.keyword === 'enum') &&
    type?.keyword === 'type' &&
    type.instancePath === error.instancePath &&
    type.schemaPath === error.schemaPath.replace(/[^/]+$/, 'type')
  )
}

/**
 * Reduces the errors of a union, which come from every branch. Keeps the errors of the branch that the value is nearest to. If
 * the value is of the wrong kind for all branches, lists the allowed kinds.
 */
function collapse(union: AjvError, findings: readonly Finding[]): readonly Finding[] {
  const prefix = `${union.schemaPath}/`
  const isPart = ({ error }: Finding) =>
    error.schemaPath.startsWith(prefix) && error.instancePath.startsWith(union.instancePath)
  // The errors of a union are adjacent. Earlier ones belong to other members, or to other items with the same schema.
  const start = findings.findLastIndex((finding) => !isPart(finding)) + 1
  if (start === findings.length) return [...findings, findingOf(union)]
  const branches = Map.groupBy(findings.slice(start), ({ error }) =>
    error.schemaPath.slice(prefix.length).split('/', 1).join(),
  )
  const isOfKind = (branch: readonly Finding[]) =>
    !branch.some(
      ({ error, alternatives }) => alternatives.length > 0 && error.instancePath === union.instancePath,
    )
  const ofKind = [...branches.values()].filter(isOfKind).sort((a, b) => a.length - b.length)
  const [nearest] = ofKind
  if (nearest !== undefined) return [...findings.slice(0, start), ...nearest]
  const alternatives = [...branches.values()].flatMap((branch) =>
    branch.flatMap((finding) => finding.alternatives),
  )
  return [...findings.slice(0, start), mustBe(union, alternatives)]
}

function mustBe(error: AjvError, alternatives: readonly string[]): Finding {
  const distinct = [...new Set(alternatives)]
  const list = [distinct.slice(0, -1).join(', '), ...distinct.slice(-1)]
    .filter((part) => part !== '')
    .join(' or ')
  return { error, alternatives: distinct, fault: { pointer: error.instancePath, detail: `must be ${list}` } }
}

function findingOf(error: AjvError): Finding {
  const { keyword, params } = error
  switch (keyword) {
    case 'type':
      return mustBe(error, [params.type].flat().map(kindOf))
    case 'const':
      return mustBe(error, [JSON.stringify(params.allowedValue)])
    case 'enum':
      return mustBe(
        error,
        [params.allowedValues].flat().map((value) => JSON.stringify(value)),
      )
    case 'required':
      return atMember(error, params.missingProperty, 'is missing')
    case 'additionalProperties':
      return atMember(error, params.additionalProperty, 'is not a known member')
    case 'unevaluatedProperties':
      return atMember(error, params.unevaluatedProperty, 'is not a known member')
    default:
      return { error, alternatives: [], fault: { pointer: error.instancePath, detail: wordsOf(error) } }
  }
}

function atMember(error: AjvError, member: unknown, detail: string): Finding {
  const name = String(member)
  const fault =
    name.length > NAME_LENGTH_MAX
      ? {
          pointer: error.instancePath,
          detail: `has an unknown member, whose name has ${name.length} characters`,
        }
      : { pointer: `${error.instancePath}/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`, detail }
  return { error, alternatives: [], fault }
}

/** Descriptions of patterns, by their beginning: few people read patterns. */
const PATTERNS: readonly (readonly [begins: string, words: string])[] = [
  ['^(\\d{4})-(0[1-9]|1[0-2])', 'an RFC 3339 time such as 2026-01-31T12:00:00Z'],
  ['^https?://', 'an http or https URL without query, fragment or spaces'],
  ['^[a-z0-9]([a-z0-9-]{0,61}', 'at most 63 of a-z, 0-9 and hyphens, with no hyphen at either end'],
  ['^[0-9a-fA-F]{8}-', 'a UUID'],
  ['^[^\\s@', 'an email address'],
  ['^[\\x20-\\x7e]+$', 'printable ASCII'],
  ['^[\\x21-\\x7e]+$', 'printable ASCII without spaces'],
]

function patternWords(pattern: string): string {
  const known = PATTERNS.find(([begins]) => pattern.startsWith(begins))
  return known === undefined ? `must match the pattern ${pattern}` : `must be ${known[1]}`
}

function wordsOf({ keyword, params, message }: AjvError): string {
  const limit = String(params.limit)
  const count = (unit: string) => `${limit} ${unit}${limit === '1' ? '' : 's'}`
  switch (keyword) {
    case 'anyOf':
    case 'oneOf':
      return 'matches none of the allowed forms'
    case 'pattern':
      return patternWords(String(params.pattern))
    case 'minLength':
      return limit === '1' ? 'must not be empty' : `must have at least ${count('character')}`
    case 'maxLength':
      return `must have at most ${count('character')}`
    case 'minItems':
      return `must have at least ${count('item')}`
    case 'maxItems':
      return `must have at most ${count('item')}`
    case 'minProperties':
      return `must have at least ${count('member')}`
    case 'maxProperties':
      return `must have at most ${count('member')}`
    case 'uniqueItems': {
      const twins = [Number(params.i), Number(params.j)].sort((a, b) => a - b)
      return `must not have the same item twice (items ${twins.join(' and ')})`
    }
    case 'minimum':
      return `must be at least ${limit}`
    case 'maximum':
      return `must be at most ${limit}`
    case 'exclusiveMinimum':
      return `must be more than ${limit}`
    case 'exclusiveMaximum':
      return `must be less than ${limit}`
    case 'multipleOf':
      return `must be a multiple of ${String(params.multipleOf)}`
    default:
      return message ?? 'is not valid'
  }
}

const KINDS: Readonly<Record<string, string>> = {
  string: 'a string',
  number: 'a number',
  integer: 'a whole number',
  boolean: 'true or false',
  object: 'an object',
  array: 'an array',
  null: 'null',
}

function kindOf(type: unknown): string {
  return KINDS[String(type)] ?? String(type)
}
