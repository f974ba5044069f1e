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

/**
 * A page of `limit` from `rows`, which have one more where there is a next page.
 *
 * @param reached key of where the next page begins although this one is not full.
 */
export function pageOf<Row, Item>(
  rows: readonly Row[],
  limit: number,
  keyOf: (row: Row) => string,
  view: (row: Row) => Item,
  reached: string | null = null,
): { items: Item[]; next_cursor: string | null } {
  const items = rows.slice(0, limit)
  const last = items.at(-1)
  const more = rows.length > limit && last !== undefined
  const next = more ? keyOf(last) : reached
  return {
    items: items.map(view),
    next_cursor: next === null ? null : Buffer.from(next, 'utf8').toString('base64url'),
  }
}
