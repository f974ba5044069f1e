/**
 * How many more units one consumer may take from a shared stock. A consumer may hold at most the fraction `part` of its own units
 * and the free units together. Some of the stock therefore stays free, so that a new consumer can start at once.
 *
 * @param part more than 0, less than 1.
 */
export function shareLeft(has: number, free: number, part: number): number {
  return free <= 0 ? 0 : Math.max(0, Math.ceil((has + free) * part) - has)
}

/** A round-robin queue of groups; within a group, members leave in order. Every operation takes constant time. */
export interface RoundRobin<Group, Member> {
  /** Appends a member to its group. A member that is already queued keeps its place. */
  add(group: Group, member: Member): void
  /**
   * Removes and returns the next member; null if there is none. A group that `may` refuses is set aside with its members until
   * `add` or `recall` names it.
   */
  next(may: (group: Group) => boolean): Member | null
  /** Puts a group that was set aside back into the round. */
  recall(group: Group): void
}

/** A FIFO queue that contains an item at most once. */
interface Queue<Item> {
  push(item: Item): void
  shift(): Item | undefined
  readonly size: number
}

export function createRoundRobin<Group, Member>(): RoundRobin<Group, Member> {
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

/** An array with a moving head, because `Array.prototype.shift` takes linear time. */
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

/** Merges groups round by round: the first item of every group, then the second of every group, and so on. */
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
