import type { EventId } from '@curfew/domain'

/** The recently accepted ids with their contents. They detect most id conflicts without a query. */
export interface RecentIds {
  /** The last accepted content of the id, or undefined if the id is not among the recent ones. */
  find(id: EventId): string | undefined
  add(id: EventId, content: string): void
}

/** Creates a memory of the last `size` ids. Intake finds older conflicts and quarantines them. */
export function createRecentIds(size: number): RecentIds {
  const recent = new Map<EventId, string>()
  return {
    find: (id) => recent.get(id),
    add(id, content) {
      recent.delete(id)
      recent.set(id, content)
      if (recent.size > size) {
        const oldest = recent.keys().next()
        if (!oldest.done) recent.delete(oldest.value)
      }
    },
  }
}
