/** A queue that is first in, first out for each caller, and fair between callers. */
export interface FairQueue<Item> {
  readonly size: number
  /** The number of items of one caller. */
  sizeOf(caller: string): number
  add(caller: string, item: Item): void
  /** Takes up to `count` items: one of each caller, then a second of each, and so on. These callers then move to the end. */
  take(count: number): readonly Item[]
  /** Puts taken items back in their order. Callers in `served` move to the end; the others move to the front. */
  putBack(items: readonly (readonly [caller: string, item: Item])[], served: ReadonlySet<string>): void
}

export function createFairQueue<Item>(): FairQueue<Item> {
  /** The callers with items, in the order of their turns. */
  let callers = new Map<string, Item[]>()
  let size = 0

  return {
    get size() {
      return size
    },
    sizeOf: (caller) => callers.get(caller)?.length ?? 0,
    add(caller, item) {
      const own = callers.get(caller)
      if (own === undefined) callers.set(caller, [item])
      else own.push(item)
      size += 1
    },
    take(count) {
      const ahead = [...callers].slice(0, count)
      const shares = sharesOf(
        ahead.map(([, items]) => items.length),
        count,
      )
      const taken = ahead.map(([, items], at) => items.splice(0, shares[at]))
      for (const [caller, items] of ahead) {
        callers.delete(caller)
        if (items.length > 0) callers.set(caller, items)
      }
      const [first = []] = taken
      const all = taken.length === 1 ? first : interleaved(taken)
      size -= all.length
      return all
    },
    putBack(items, served) {
      const byCaller = Map.groupBy(items, ([caller]) => caller)
      const front = new Map<string, Item[]>()
      for (const [caller, own] of byCaller) {
        const whole = [...own.map(([, item]) => item), ...(callers.get(caller) ?? [])]
        callers.delete(caller)
        if (served.has(caller)) callers.set(caller, whole)
        else front.set(caller, whole)
      }
      for (const caller of served) {
        const own = callers.get(caller)
        if (own === undefined) continue
        callers.delete(caller)
        callers.set(caller, own)
      }
      if (front.size > 0) callers = new Map([...front, ...callers])
      size += items.length
    },
  }
}

/** How many of its items each caller gives, so that together they give `count`. */
function sharesOf(lengths: readonly number[], count: number): readonly number[] {
  if (lengths.length === 1) return [Math.min(count, lengths[0] ?? 0)]
  const shares = lengths.map(() => 0)
  let left = count
  for (let round = 1, given = -1; left > 0 && given !== 0; round++) {
    given = 0
    for (const [at, length] of lengths.entries()) {
      if (left === 0 || length < round) continue
      shares[at] = round
      left -= 1
      given += 1
    }
  }
  return shares
}

function interleaved<Item>(lists: readonly (readonly Item[])[]): readonly Item[] {
  const rounds = Math.max(0, ...lists.map((list) => list.length))
  return Array.from({ length: rounds }, (_, round) =>
    lists.flatMap((list) => list.slice(round, round + 1)),
  ).flat()
}
