import type { Page } from '@curfew/client'
import { text, UsageError } from './arguments.ts'

/** Greatest number of items in one page of the server. */
const PAGE_MAX = 500
const LIMIT_DEFAULT = 50

/** The option of commands that list. */
export const LIMIT_OPTION = { limit: text('N', `list at most N (default: ${LIMIT_DEFAULT})`) } as const

/** @throws {UsageError} */
export function limitOf({ limit: given }: { readonly limit?: string }): number {
  const limit = Number(given ?? LIMIT_DEFAULT)
  if (!Number.isInteger(limit) || limit < 1) throw new UsageError('--limit must be a whole number from 1.')
  return limit
}

/** Fetches up to `limit` items, from several pages if needed. */
export async function upTo<Item>(
  limit: number,
  next: (part: { limit: number; cursor?: string }) => Promise<Page<Item>>,
): Promise<Page<Item>> {
  const items: Item[] = []
  let cursor: string | null = null
  do {
    const page: Page<Item> = await next({
      limit: Math.min(PAGE_MAX, limit - items.length),
      ...(cursor !== null && { cursor }),
    })
    items.push(...page.items)
    cursor = page.next_cursor
  } while (cursor !== null && items.length < limit)
  return { items, next_cursor: cursor }
}
