import { sleep } from '@curfew/runtime'

/** `fresh` deliveries are planned for the first time, `due` ones are claimed from the ledger. */
export type BulkKind = 'fresh' | 'due'

/** The rate at which the bulk lane may proceed. */
export interface BulkPace {
  /** The deliveries of this kind that may be planned or claimed now. */
  available(kind: BulkKind): number
  /** Spends deliveries of a kind. An excess over the available number must be waited for. */
  spend(kind: BulkKind, deliveries: number): void
  /** Resolves when fresh deliveries are available, or when `stopping` aborts. */
  ready(stopping: AbortSignal): Promise<void>
}

export interface BulkPaceOptions {
  /** The busy part of this process's time since the last call, 0 to 1. */
  readonly utilization: () => number
  readonly monotonicMs: () => number
}

/** Above this utilization the bulk lane slows down, to leave time for interactive logouts. */
const BUSY = 0.5
const ADJUST_MS = 100
const PER_SECOND = { first: 500, least: 50, most: 20_000 }
const SLOWER = 0.7
const FASTER = 1.15
const PAUSE_MS = 20
/** Every kind has its own part, so that retries do not wait for the end of a mass logout that takes hours. */
const PARTS: Readonly<Record<BulkKind, number>> = { fresh: 0.7, due: 0.3 }

/**
 * Gives a mass logout the spare time of this process. The pace grows slowly while time is left, and drops at once when it is not.
 * Interactive logouts should not be delayed noticeably.
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
      // The pace grows only while it limits the bulk lane. After an idle day the next mass logout must not start at the highest
      // rate.
      const limiting = tokens.fresh < 1 || tokens.due < 1
      const factor = utilization() > BUSY ? SLOWER : limiting ? FASTER : 1
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

/** Creates a function that returns the busy part of the event loop's time since its last call, 0 to 1. */
export function createUtilization(): () => number {
  let last = performance.eventLoopUtilization()
  return () => {
    const current = performance.eventLoopUtilization()
    const { utilization } = performance.eventLoopUtilization(current, last)
    last = current
    return utilization
  }
}
