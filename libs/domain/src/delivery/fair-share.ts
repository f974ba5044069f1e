/**
 * How many more units one taker may have of a stock that several take from: at most the part `part` of what it has and what is
 * free together. However many takers there are, some of the stock stays free, so that the next one starts at once.
 *
 * @param part more than 0, less than 1.
 */
export function shareLeft(has: number, free: number, part: number): number {
  return free <= 0 ? 0 : Math.max(0, Math.ceil((has + free) * part) - has)
}

/** A queue in which groups take turns, and within a group its members do. Each step takes constant time. */
export interface FairTurns<Group, Member> {
  /** Puts a member at the end of its group. One that waits keeps its place. */
  add(group: Group, member: Member): void
  /**
   * Takes out the next member. A group that `may` refuses is set aside with all its members, until `add` or `recall` names it.
   * Null where no group may.
   */
  next(may: (group: Group) => boolean): Member | null
  /** Lets a group that was set aside take turns again. */
  recall(group: Group): void
}

/** First in, first out, each item once. */
interface Queue<Item> {
  push(item: Item): void
  shift(): Item | undefined
  readonly size: number
}

export function createFairTurns<Group, Member>(): FairTurns<Group, Member> {
  const members = new Map<Group, Queue<Member>>()
  const turns = createQueue<Group>()

  return {
    add(group, member) {
      let queue = members.get(group)
      if (queue === undefined) {
        queue = createQueue()
        members.set(group, queue)
      }
      queue.push(member)
      turns.push(group)
    },
    next(may) {
      for (let group = turns.shift(); group !== undefined; group = turns.shift()) {
        if (!may(group)) continue
        const queue = members.get(group)
        const member = queue?.shift()
        if (queue === undefined || member === undefined) continue
        if (queue.size > 0) turns.push(group)
        else members.delete(group)
        return member
      }
      return null
    },
    recall(group) {
      if (members.has(group)) turns.push(group)
    },
  }
}

/** An array with a moving head: `shift` of an array takes time in proportion to its length. */
function createQueue<Item>(): Queue<Item> {
  const known = new Set<Item>()
  let items: Item[] = []
  let head = 0
  return {
    push(item) {
      if (known.has(item)) return
      known.add(item)
      items.push(item)
    },
    shift() {
      if (known.size === 0) return undefined
      const item = items[head] as Item
      head += 1
      known.delete(item)
      if (head * 2 >= items.length) {
        items = items.slice(head)
        head = 0
      }
      return item
    },
    get size() {
      return known.size
    },
  }
}

/** One item of each group, then another of each, until all are there. */
export function interleave<Item>(groups: readonly (readonly Item[])[]): readonly Item[] {
  if (groups.length <= 1) return groups[0] ?? []
  const items: Item[] = []
  let left = groups
  for (let place = 0; left.length > 0; place++) {
    left = left.filter(({ length }) => length > place)
    for (const group of left) items.push(group[place] as Item)
  }
  return items
}
