import type { Database } from './database.ts'

// Walks read a list page by page along an index. Filters without an index are checked row by row, and the number of rows that a
// page reads is bounded. So a page may have fewer rows than requested, even none. It then says where the next page begins.

/** Most rows that one page reads. */
const WALK_ROWS = 5_000
/** Most parts that one statement walks separately. */
const WALK_PARTS = 500
/** Most parts that are walked separately. With more, the list is walked as a whole. */
const WALK_PARTS_MAX = 5_000

/** The walk's own parameters. The list's parameters follow them. */
export const WALK_PARAMETERS = { last: 3 }

/** How a list is walked. `$1`: the parts. `$2`: most rows read in each part. `$3`: most rows returned. */
export interface WalkPlan {
  /** The table; its alias is `t`. */
  readonly table: string
  /** The sort key: columns of an index. In the index they follow the columns that `where` compares with one value. */
  readonly key: readonly string[]
  readonly order: 'asc' | 'desc'
  /** The condition on `t` that the index serves. In a walk by parts it compares a column with `part.id`. */
  readonly where: string
  /** The condition on `w` that is checked row by row. */
  readonly filter: string
  /** The columns that `filter` needs in addition to the key. */
  readonly columns?: readonly string[]
  /** The select list that returns the key. */
  readonly returned: string
  /** Whether every value of `$1` is walked separately. */
  readonly byParts: boolean
}

/** SQL that finds the keys of a page and, if the page is not full, the last key that it read. */
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

/** The result of a walk. */
export interface Walked<Key> {
  /** The keys of a page, in any order. */
  readonly keys: readonly Key[]
  /** The last key read, where the next page continues; null if this page is full or the list has ended. */
  readonly reached: Key | null
}

export interface WalkStatement {
  readonly name: string
  readonly text: string
}

/** Walks one page. The statement is prepared by name, so that its plan must suit all values. @param values from `$4` on. */
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
    /** Whether the statement walks every part separately. */
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
 * Walks many parts. If the parts have most rows of the list, one walk of the whole list fills a page. Otherwise every part is
 * walked separately, in groups that are merged into one page. This never reads rows of other parts.
 *
 * @param compare sorts keys in the order of the list.
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
  // A group has not read its rows behind its edge.
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
  /** Where the next page continues after a page that is not full; null if this page is full or the list has ended. */
  readonly reached: Position | null
}

/** SQL: the bindings of an issuer, of some clients and of one kind of channel. A null parameter does not filter. */
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

/** The bindings whose rows a list may show; null: all bindings. */
export async function filteredBindings(
  db: Database,
  {
    issuer,
    clientIds,
    channel = null,
  }: { issuer: string | null; clientIds: readonly string[] | null; channel?: string | null },
): Promise<readonly number[] | null> {
  if (issuer === null && clientIds === null && channel === null) return null
  // Not prepared by name: a plan that suits one set of filters is bad for another.
  const { rows } = await db.query<{ id: number }>({ text: BINDINGS, values: [issuer, clientIds, channel] })
  return rows.map(({ id }) => id)
}
