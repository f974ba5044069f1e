/** The parts of a member's schema that decide which values are wrong. */
interface MemberSchema {
  readonly type?: string
  readonly maxLength?: number
  readonly minLength?: number
  readonly pattern?: string
  readonly minItems?: number
  readonly maxItems?: number
  readonly uniqueItems?: boolean
  readonly items?: MemberSchema
  readonly properties?: Readonly<Record<string, MemberSchema>>
  readonly required?: readonly string[]
  readonly anyOf?: readonly (MemberSchema & { readonly const?: unknown })[]
}

/**
 * Derives values that a member must not have from its schema, so that a new member gets its cases automatically.
 *
 * @throws {Error} for an unknown kind of schema, which needs new cases here.
 */
function wrongValues(schema: MemberSchema): readonly (readonly [why: string, value: unknown])[] {
  const otherTypes = (type: string) =>
    (
      [
        ['string', 'x'],
        ['number', 1],
        ['boolean', true],
        ['array', ['x']],
        ['object', { x: 1 }],
        ['null', null],
      ] as const
    )
      .filter(([name]) => name !== type)
      .map(([name, value]) => [`of type ${name}`, value] as const)
  if (schema.anyOf?.every((branch) => 'const' in branch)) {
    return [
      ...otherTypes('string'),
      ['not among its values', 'sideways'],
      ['in upper case', String(schema.anyOf[0]?.const).toUpperCase()],
    ]
  }
  const [only, ...others] = schema.anyOf?.filter(({ type }) => type !== 'null') ?? []
  if (only !== undefined && others.length === 0)
    return wrongValues(only).filter(([, value]) => value !== null)
  switch (schema.type) {
    case 'string': {
      const { maxLength, pattern } = schema
      if (pattern === undefined) throw new Error('a string without a pattern needs new cases in wrongValues')
      return [
        ...otherTypes('string'),
        ['empty', ''],
        ['with a control character', '\u0001'],
        ['with a line feed at its end', 'https://idp.example\n'],
        ...(maxLength === undefined
          ? [['long', 'a'.repeat(100_000)] as const]
          : [['too long', 'a'.repeat(maxLength + 1)] as const]),
      ]
    }
    case 'boolean':
      return otherTypes('boolean')
    case 'array': {
      const { items, minItems, maxItems, uniqueItems } = schema
      if (
        items === undefined ||
        minItems !== 1 ||
        maxItems === undefined ||
        (items.type !== 'object' && uniqueItems !== true)
      )
        throw new Error('an array without bounds or uniqueItems needs new cases in wrongValues')
      const many = Array.from({ length: maxItems + 1 }, (_, index) => rightItem(items, `c${index}`))
      return [
        ...otherTypes('array'),
        ['empty', []],
        ['too many', many],
        ...(uniqueItems === true ? [['with a duplicate', ['a', 'a']] as const] : []),
        ...wrongValues(items).map(
          ([why, value]) => [`with an item ${why}`, [rightItem(items, 'fine'), value]] as const,
        ),
      ]
    }
    case 'object': {
      const { properties = {}, required = [] } = schema
      const right = rightItem(schema, 'fine') as object
      return [
        ...otherTypes('object'),
        ['empty', {}],
        ['with an unknown member', { ...right, x: 1 }],
        ...wrongMembers({ properties, required }).map(
          ({ member, why, value }) => [`with a ${member} ${why}`, { ...right, [member]: value }] as const,
        ),
      ]
    }
    default:
      throw new Error(`wrongValues has no cases for the schema ${JSON.stringify(schema)}: add them`)
  }
}

/** A valid item of an array: a text, or an object whose required members are texts. */
function rightItem({ type, required = [] }: MemberSchema, text: string): unknown {
  return type === 'object' ? Object.fromEntries(required.map((member) => [member, text])) : text
}

/** The wrong values of each member of a body. An optional member may be null: it counts as absent. */
export function wrongMembers({
  properties,
  required = [],
}: {
  readonly properties: object
  readonly required?: readonly string[]
}): readonly { readonly member: string; readonly why: string; readonly value: unknown }[] {
  return Object.entries(properties).flatMap(([member, schema]: [string, MemberSchema]) =>
    wrongValues(schema)
      .filter(([, value]) => value !== null || required.includes(member))
      .map(([why, value]) => ({ member, why, value })),
  )
}
