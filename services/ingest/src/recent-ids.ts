import type { EventId } from '@curfew/domain'

/** The ids accepted lately, with what they stood for: enough to answer a repeated post without asking anybody. */
export interface RecentIds {
  /** What the id was last accepted with, or undefined when it is not among the recent. */
  find(id: EventId): string | undefined
  add(id: EventId, content: string): void
}

/** Remembers the last `size` ids. A conflict that is older is found by intake, and quarantined. */
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
