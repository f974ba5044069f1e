// Every record consumed leaves a dead index entry until vacuum comes, at the low end where fetches start, and a transaction
// that someone holds open keeps them all. So fetches start behind what was committed some seconds ago. What appears below
// that, from an append that took so long to commit, is found by a sweep from the beginning. What a batch could not do is found
// again by the next fetch, wherever it lies: until it is committed, fetches start before it.

/** How far behind the last commit the floor stays, in milliseconds: once to twice this. */
const LAG_MS = 3_000
const SWEEP_MS = 20_000

/** Where fetches start in one partition. */
export interface Floor {
  /** Where the next fetch starts: behind this position. 0 while a sweep is due. */
  readonly start: number
  readonly sweeping: boolean
  /** Records that were committed. Others before them may be in batches that are still handled. */
  committed(positions: readonly number[]): void
  /** Records of a batch that failed: they come again, and before what follows them. */
  failed(positions: readonly number[]): void
  /** To be called after a fetch that started where `start` said. */
  fetched(): void
  /** To be called often. */
  advance(now: number): void
}

/** The first fetch of a partition is a sweep. */
export function createFloor(now: number): Floor {
  let floor = 0
  let highest = 0
  let highestBefore = 0
  let raisedAt = now
  let sweptAt = now
  let sweeping = true
  const failed = new Set<number>()
  return {
    get start() {
      if (sweeping) return 0
      let start = floor
      for (const position of failed) start = Math.min(start, position - 1)
      return start
    },
    get sweeping() {
      return sweeping
    },
    committed(positions) {
      for (const position of positions) {
        highest = Math.max(highest, position)
        failed.delete(position)
      }
    },
    failed(positions) {
      for (const position of positions) failed.add(position)
    },
    fetched() {
      sweeping = false
    },
    advance(at) {
      if (at - sweptAt >= SWEEP_MS) {
        sweeping = true
        sweptAt = at
      }
      if (at - raisedAt >= LAG_MS) {
        floor = highestBefore
        highestBefore = highest
        raisedAt = at
      }
    },
  }
}
