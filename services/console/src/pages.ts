import { ProblemError } from '@curfew/runtime'

/** Where the next page begins, as the list's cursor said it. */
export function readCursor(cursor: string | undefined): string | null {
  if (cursor === undefined) return null
  const text = Buffer.from(cursor, 'base64url').toString('utf8')
  if (Buffer.from(text, 'utf8').toString('base64url') === cursor && !/\p{Cc}/u.test(text)) return text
  throw new ProblemError({
    status: 400,
    title: 'Invalid cursor',
    detail: 'Give next_cursor of the page before as it was, or no cursor to begin anew.',
    errors: [{ pointer: '/cursor', detail: 'is not a cursor of this list' }],
  })
}

/** A page of `limit` from `rows`, which have one more where there is a next page. */
export function pageOf<Row, Item>(
  rows: readonly Row[],
  limit: number,
  keyOf: (row: Row) => string,
  view: (row: Row) => Item,
): { items: Item[]; next_cursor: string | null } {
  const items = rows.slice(0, limit)
  const last = items.at(-1)
  const more = rows.length > limit && last !== undefined
  return {
    items: items.map(view),
    next_cursor: more ? Buffer.from(keyOf(last), 'utf8').toString('base64url') : null,
  }
}
