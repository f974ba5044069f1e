import { type Plain, plainColumn, textColumn } from './arrays.ts'

// Parameters of statements that have many. The columns are named once. The statement's text and its values both come from that
// list, so that their order always agrees.

/** Types whose values need no quoting in an array. A `word` is a `text` without spaces and quotes, such as a state. */
type PlainType = 'uuid' | 'int' | 'smallint' | 'bigint' | 'boolean' | 'timestamptz' | 'word'

/** The type of a column, and the function that reads its value from a row. */
type Column<Row> =
  | readonly [type: PlainType, read: (row: Row) => Plain]
  | readonly [type: 'text' | 'json' | 'jsonb', read: (row: Row) => string | null]
  | readonly [type: 'bytea', read: (row: Row) => Buffer]

export type Columns<Row> = Readonly<Record<string, Column<Row>>>

/** A part of a statement that takes parameters. The next part takes the parameters after `last`. */
export interface Numbered {
  /** The number of its last parameter. */
  readonly last: number
}

/** Rows as parameters: one array for each column. */
export interface RowParameters<Row> extends Numbered {
  /** `a, b` */
  readonly names: string
  /** `unnest($1::…[], $2::…[])` */
  readonly unnest: string
  /** `unnest($1::…[], $2::…[]) as alias(a, b)` */
  as(alias: string): string
  /** Like `as`, with the number of the row, from 1, as `place`. */
  placedAs(alias: string): string
  values(rows: readonly Row[]): readonly unknown[]
}

/**
 * Makes parameters from rows.
 *
 * @param columns by name. The first column must have a value in every row. A column without any value is sent as an empty array,
 * which `unnest` fills with nulls.
 * @param after the part of the statement before this one. Default: none.
 */
export function rowParameters<Row>(
  columns: Columns<Row>,
  { after = { last: 0 } }: { after?: Numbered } = {},
): RowParameters<Row> {
  const all = Object.values(columns)
  const names = Object.keys(columns).join(', ')
  const arrays = all.map(([type], index) => `$${after.last + index + 1}::${sqlType(type)}[]`)
  const unnest = `unnest(${arrays.join(', ')})`
  return {
    names,
    unnest,
    as: (alias) => `${unnest} as ${alias}(${names})`,
    placedAs: (alias) => `${unnest} with ordinality as ${alias}(${names}, place)`,
    values: (rows) => all.map((column) => encoded(column, rows)),
    last: after.last + all.length,
  }
}

function sqlType(type: Column<never>[0]): string {
  return type === 'word' ? 'text' : type
}

function encoded<Row>(column: Column<Row>, rows: readonly Row[]): unknown {
  switch (column[0]) {
    case 'bytea':
      return rows.map(column[1])
    case 'text':
    case 'json':
    case 'jsonb':
      return textColumn(rows.map(column[1]))
    default:
      return plainColumn(rows.map(column[1]))
  }
}

/** Parameters that are single values. */
export interface NamedParameters<Name extends string> extends Numbered {
  /** `a, b` */
  readonly names: string
  /** `$1::…, $2::…` */
  readonly list: string
  /** The parameters with their types, by name: `$.a` is `$1::…` */
  readonly $: Readonly<Record<Name, string>>
  values(of: Readonly<Record<Name, unknown>>): readonly unknown[]
}

/**
 * Makes parameters from single values.
 *
 * @param types PostgreSQL types, by name.
 * @param after the part of the statement before this one. Default: none.
 */
export function namedParameters<Name extends string>(
  types: Readonly<Record<Name, string>>,
  { after = { last: 0 } }: { after?: Numbered } = {},
): NamedParameters<Name> {
  const names = Object.keys(types) as Name[]
  const numbered = names.map((name, index) => `$${after.last + index + 1}::${types[name]}`)
  return {
    names: names.join(', '),
    list: numbered.join(', '),
    $: Object.fromEntries(names.map((name, index) => [name, numbered[index]])) as Record<Name, string>,
    values: (of) => names.map((name) => of[name]),
    last: after.last + names.length,
  }
}
