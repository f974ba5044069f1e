import { sleep } from '@curfew/runtime'

/** Planned for the first time, or claimed from the ledger. */
export type BulkKind = 'fresh' | 'due'

/** How fast the bulk lane may go. */
export interface BulkPace {
  /** Deliveries of that kind that may be planned or claimed now. */
  available(kind: BulkKind): number
  /** Says that so many were. More than were available is made up for by waiting. */
  spend(kind: BulkKind, deliveries: number): void
  /** Resolves when some fresh ones are available, or `stopping` aborts. */
  ready(stopping: AbortSignal): Promise<void>
}

export interface BulkPaceOptions {
  /** How busy this process has been since the last call, 0 to 1. */
  readonly utilization: () => number
  readonly monotonicMs: () => number
}

/** Busier than this, the bulk lane slows down: what is left is for people who wait. */
const BUSY = 0.5
const ADJUST_MS = 100
const PER_SECOND = { first: 500, least: 50, most: 20_000 }
const SLOWER = 0.7
const FASTER = 1.15
const PAUSE_MS = 20
/** Each kind has a part of its own: retries must not wait for the end of a mass logout that goes on for hours. */
const PARTS: Readonly<Record<BulkKind, number>> = { fresh: 0.7, due: 0.3 }

/**
 * Lets a mass logout have what this process has to spare, and no more: it speeds up little by little while there is
 * time left, and slows down at once when there is not. Whoever clicks meanwhile should not notice.
 */
export function createBulkPace({ utilization, monotonicMs }: BulkPaceOptions): BulkPace {
  let perSecond = PER_SECOND.first
  const tokens: Record<BulkKind, number> = { fresh: 0, due: 0 }
  let atMs = monotonicMs()
  let adjustedMs = atMs

  function refill(): void {
    const nowMs = monotonicMs()
    if (nowMs - adjustedMs >= ADJUST_MS) {
      adjustedMs = nowMs
      // Faster only while it holds something back: unused for a day, it must not begin the next mass logout at its most.
      const heldBack = tokens.fresh < 1 || tokens.due < 1
      const factor = utilization() > BUSY ? SLOWER : heldBack ? FASTER : 1
      perSecond = Math.min(Math.max(perSecond * factor, PER_SECOND.least), PER_SECOND.most)
    }
    for (const kind of ['fresh', 'due'] as const) {
      const rate = (perSecond * PARTS[kind]) / 1_000
      tokens[kind] = Math.min(tokens[kind] + (nowMs - atMs) * rate, ADJUST_MS * rate)
    }
    atMs = nowMs
  }

  function available(kind: BulkKind): number {
    refill()
    return Math.max(0, Math.floor(tokens[kind]))
  }

  return {
    available,
    spend(kind, deliveries) {
      tokens[kind] -= deliveries
    },
    async ready(stopping) {
      while (available('fresh') < 1 && !stopping.aborted) await sleep(PAUSE_MS, stopping)
    },
  }
}

/** How busy this process's event loop has been since the last call, 0 to 1. */
export function createUtilization(): () => number {
  let last = performance.eventLoopUtilization()
  return () => {
    const current = performance.eventLoopUtilization()
    const { utilization } = performance.eventLoopUtilization(current, last)
    last = current
    return utilization
  }
}
