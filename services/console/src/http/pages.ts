import type { AccessFilter } from '@curfew/domain'
import { type Credential, callerOf, ProblemError } from '@curfew/runtime'
import type { CursorSealer } from '@curfew/tokens'

// The pages of every list. A list may end a page at a row that its caller may not see, so a cursor is sealed: the caller reads
// nothing in it, and it goes on in the same list only, for callers with the same reach.

interface ListRequest {
  /** With the query. */
  readonly url: string
  readonly credential: Credential | null
}

/** The pages of one list for one caller. */
export interface Page {
  /** Where the page begins, as the list's cursor says it; null: at the beginning. @throws a 400 problem. */
  readCursor(cursor: string | undefined): string | null
  /**
   * A page of `limit` from `rows`, which have one more where there is a next page.
   *
   * @param reached key of where the next page begins although this one is not full.
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
            'The cursor is not of this list, or of a credential that may see other things, or was changed. Give next_cursor of the page before as it was, or no cursor to begin anew.',
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

/** The path of the list, and what the caller may see. */
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
