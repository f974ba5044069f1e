import type { Database } from './database.ts'

// Lists are pages along an index. Filters that no index serves are checked row by row, and how many rows a page looks at is
// bounded: a page may have fewer rows than were asked for, even none, and say where the next one begins.

/** Most rows that one page looks at. */
const WALK_ROWS = 5_000
/** Most parts that one statement walks side by side. */
const WALK_PARTS = 500
/** Most parts that several statements walk. With more, the list is walked as a whole. */
const WALK_PARTS_MAX = 5_000

/** The parameters of a walk itself. Those of the list come after them. */
export const WALK_PARAMETERS = { last: 3 }

/** How a list is walked. `$1` are the parts, `$2` how many rows are looked at in each, `$3` how many are wanted. */
export interface WalkPlan {
  /** The table, as `t`. */
  readonly table: string
  /** By what the list is sorted: columns of an index, after those that `where` compares with one value. */
  readonly key: readonly string[]
  readonly order: 'asc' | 'desc'
  /** What the index serves, of `t`; in a walk by parts, with a comparison to `part.id`. */
  readonly where: string
  /** What is checked of each row, of `w`; and the columns that it needs beside the key. */
  readonly filter: string
  readonly columns?: readonly string[]
  /** The key as it is returned. */
  readonly returned: string
  /** Whether `$1` has the values of a column, each of them walked by itself. */
  readonly byParts: boolean
}

/** SQL that finds the keys of a page, and, where it is not full, the key that it looked at last. */
export function walkSql(plan: WalkPlan): string {
  const { table, key, order, where, filter, columns = [], returned, byParts } = plan
  const parts = byParts ? 'unnest($1::bigint[])' : '(select null::bigint from (select $1::bigint[]) given)'
  const sorted = (row: string) => key.map((column) => `${row}.${column} ${order}`).join(', ')
  const keyOf = (row: string) => `(${key.map((column) => `${row}.${column}`).join(', ')})`
  const picked = [...key, ...columns].map((column) => `t.${column}`).join(', ')
  const behind = order === 'desc' ? '<' : '>'
  return `
  with found as (
    select part.id as part, w.*
      from ${parts} as part(id)
     cross join lateral (
       select w.* from (
         select ${picked} from ${table} t where ${where} order by ${sorted('t')} limit $2::int
       ) w
        where ${filter} order by ${sorted('w')} limit $3::int
     ) w
  ),
  edge as (
    select w.*
      from ${parts} as part(id)
     cross join lateral (
       select ${key.map((column) => `t.${column}`).join(', ')} from ${table} t
        where ${where} order by ${sorted('t')} offset $2::int - 1 limit 1
     ) w
     where (select count(*) from found f where f.part is not distinct from part.id) < $3::int
     order by ${sorted('w')} limit 1
  ),
  page as (
    select ${key.map((column) => `w.${column}`).join(', ')} from found w
     where not exists (select from edge e where ${keyOf('w')} ${behind} ${keyOf('e')})
     order by ${sorted('w')} limit $3::int
  )
  select false as "isEdge", ${returned} from page w
   union all
  select true, ${returned} from edge w where (select count(*) from page) < $3::int`
}

/** What a walk found: the keys of a page in any order, and where the next one begins if this one is not full. */
export interface Walked<Key> {
  readonly keys: readonly Key[]
  readonly reached: Key | null
}

export interface WalkStatement {
  readonly name: string
  readonly text: string
}

/** Walks by a statement whose plan is as good for any values as for these. @param values from `$4` on. */
export async function walk<Key extends object>(
  db: Database,
  { name, text }: WalkStatement,
  {
    parts,
    apart = false,
    limit,
    values,
  }: {
    parts: readonly number[] | null
    /** Whether `text` walks each of them by itself. */
    apart?: boolean
    limit: number
    values: readonly unknown[]
  },
): Promise<Walked<Key>> {
  const rows = apart && parts !== null ? Math.ceil(WALK_ROWS / parts.length) : WALK_ROWS
  const found = await db.query<Key & { readonly isEdge: boolean }>({
    ...{ name, text },
    values: [parts, rows, limit, ...values],
  })
  return {
    keys: found.rows.filter(({ isEdge }) => !isEdge),
    reached: found.rows.find(({ isEdge }) => isEdge) ?? null,
  }
}

/**
 * Walks many parts. One walk of the whole list fills a page where the parts have most of its rows. Otherwise each part is walked by
 * itself, in groups that are merged into one page: rows of other parts are not looked at again.
 *
 * @param compare orders keys as the list does.
 */
export async function walkParts<Key extends object>(
  db: Database,
  statements: { readonly whole: WalkStatement; readonly apart: WalkStatement },
  request: {
    readonly parts: readonly number[]
    readonly limit: number
    readonly values: readonly unknown[]
    readonly compare: (a: Key, b: Key) => number
  },
): Promise<Walked<Key>> {
  const { parts, limit, values, compare } = request
  if (parts.length > WALK_PARTS) {
    const walked = await walk<Key>(db, statements.whole, { parts, limit, values })
    if (walked.reached === null || parts.length > WALK_PARTS_MAX) return walked
  }
  const groups: Walked<Key>[] = []
  for (let from = 0; from < parts.length; from += WALK_PARTS) {
    const group = parts.slice(from, from + WALK_PARTS)
    groups.push(await walk<Key>(db, statements.apart, { parts: group, apart: true, limit, values }))
  }
  // A group may have rows behind its edge that it has not looked at.
  const [edge = null] = groups.flatMap(({ reached }) => reached ?? []).toSorted(compare)
  const keys = groups
    .flatMap((group) => group.keys)
    .filter((key) => edge === null || compare(key, edge) <= 0)
    .toSorted(compare)
    .slice(0, limit)
  return { keys, reached: keys.length < limit ? edge : null }
}

/** One page of a list that is walked. */
export interface WalkedPage<Row, Position> {
  readonly rows: readonly Row[]
  /** Where the next page begins although this one is not full; null where it is, or nothing is left. */
  readonly reached: Position | null
}

/** SQL: the bindings of an issuer, of some clients and of one kind of channel; a null parameter does not narrow. */
export const bindingsSql = ({
  issuer,
  clientIds,
  channel,
}: {
  readonly issuer: string
  readonly clientIds: string
  readonly channel?: string
}) => `
  select b.id
    from relying_parties p join bindings b on b.relying_party_id = p.id
   where (${issuer} is null or p.issuer = ${issuer}) and (${clientIds} is null or p.client_id = any(${clientIds}))
     ${channel === undefined ? '' : `and (${channel} is null or b.kind = ${channel})`}`
const BINDINGS = bindingsSql({ issuer: '$1::text', clientIds: '$2::text[]', channel: '$3::text' })

/** The bindings that a list is confined to; null: all. */
export async function confinedBindings(
  db: Database,
  {
    issuer,
    clientIds,
    channel = null,
  }: { issuer: string | null; clientIds: readonly string[] | null; channel?: string | null },
): Promise<readonly number[] | null> {
  if (issuer === null && clientIds === null && channel === null) return null
  // Not prepared by name: a plan that is good for one set of filters is bad for another.
  const { rows } = await db.query<{ id: number }>({ text: BINDINGS, values: [issuer, clientIds, channel] })
  return rows.map(({ id }) => id)
}
