import type { Page } from '@curfew/client'

/** Greatest number of items in one page of the server. */
const PAGE_MAX = 500

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
