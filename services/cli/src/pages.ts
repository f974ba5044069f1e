import type { Page } from '@curfew/client'

/** Most items that the server gives in one page. */
const PAGE_MAX = 500

/** As many items as that, from as many pages as it takes. */
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
