// Every consumed record leaves a dead index entry until vacuum runs, at the low end where fetches would start. A long open
// transaction keeps all of these entries. So fetches start at a floor: behind the records that were committed some seconds ago.
// An append that commits late may add a record below the floor. A sweep from the beginning finds it. Fetches start before the
// records of a failed batch until they are committed.

/** The floor stays behind the last commit by one to two times this, in milliseconds. */
const LAG_MS = 3_000
const SWEEP_MS = 20_000

/** The position where fetches start in one partition. */
export interface Floor {
  /** The next fetch reads behind this position. 0 if a sweep is due. */
  readonly start: number
  readonly sweeping: boolean
  /** Notes committed records. Earlier records may still be in running batches. */
  committed(positions: readonly number[]): void
  /** Notes the records of a failed batch. They are fetched again, before the records behind them. */
  failed(positions: readonly number[]): void
  /** Notes that a fetch from `start` has ended. */
  fetched(): void
  /** Raises the floor and schedules sweeps. Call it often. */
  advance(now: number): void
}

/** Creates the floor of one partition. The first fetch is a sweep. */
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
