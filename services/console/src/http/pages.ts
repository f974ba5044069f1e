import type { AccessFilter } from '@curfew/domain'
import { type Credential, callerOf, ProblemError } from '@curfew/runtime'
import type { CursorSealer } from '@curfew/tokens'

// The pages of all lists. A page may end at a row that the caller may not see, so cursors are sealed: a caller cannot read a
// cursor, and it works only for the same list and for callers with the same access filter.

interface ListRequest {
  /** The URL with its query. */
  readonly url: string
  readonly credential: Credential | null
}

/** The pages of one list for one caller. */
export interface Page {
  /** The position in a cursor, where the page begins; null for the first page. @throws a 400 problem. */
  readCursor(cursor: string | undefined): string | null
  /**
   * Makes a page of `limit` items from `rows`, which have one more row if there is a next page.
   *
   * @param reached the key where the next page begins, if this page is not full but the list continues.
   */
  pageOf<Row, Item>(
    rows: readonly Row[],
    limit: number,
    keyOf: (row: Row) => string,
    view: (row: Row) => Item,
    reached?: string | null,
  ): { items: Item[]; next_cursor: string | null }
}

export type Pages = (request: ListRequest) => Page

/** Makes the pages of all lists. */
export function createPages(sealer: CursorSealer): Pages {
  return (request) => {
    const scope = scopeOf(request)
    return {
      readCursor(cursor) {
        if (cursor === undefined) return null
        const text = sealer.open(cursor, scope)
        if (text !== null) return text
        throw new ProblemError({
          status: 400,
          title: 'Invalid cursor',
          detail:
            'The cursor is from another list, from a credential with other rights, or was changed. Give the unchanged next_cursor of the previous page, or omit cursor to start from the beginning.',
          errors: [{ pointer: '/cursor', detail: 'is not a cursor of this list for this credential' }],
        })
      },
      pageOf(rows, limit, keyOf, view, reached = null) {
        const items = rows.slice(0, limit)
        const last = items.at(-1)
        const more = rows.length > limit && last !== undefined
        const next = more ? keyOf(last) : reached
        return {
          items: items.map(view),
          next_cursor: next === null ? null : sealer.seal(next, scope),
        }
      },
    }
  }
}

/** The scope of a cursor: the path of the list and the access filter of the caller. */
function scopeOf(request: ListRequest): string {
  const [path = ''] = request.url.split('?')
  return JSON.stringify([path, accessParts(callerOf(request).access)])
}

function accessParts(access: AccessFilter): readonly string[] {
  switch (access.kind) {
    case 'everything':
      return [access.kind]
    case 'issuer':
      return [access.kind, access.issuer, access.iss]
    case 'clients':
      return [access.kind, access.issuer, access.iss, ...[...access.clients].toSorted()]
  }
}
