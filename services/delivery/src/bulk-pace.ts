import { sleep } from '@curfew/runtime'

/** How fast the bulk lane may go. */
export interface BulkPace {
  /** Deliveries that may be planned or claimed now. */
  available(): number
  /** Says that so many were. More than were available is made up for by waiting. */
  spend(deliveries: number): void
  /** Resolves when some are available, or `stopping` aborts. */
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

/**
 * Lets a mass logout have what this process has to spare, and no more: it speeds up little by little while there is
 * time left, and slows down at once when there is not. Whoever clicks meanwhile should not notice.
 */
export function createBulkPace({ utilization, monotonicMs }: BulkPaceOptions): BulkPace {
  let perSecond = PER_SECOND.first
  let tokens = 0
  let atMs = monotonicMs()
  let adjustedMs = atMs

  function refill(): void {
    const nowMs = monotonicMs()
    if (nowMs - adjustedMs >= ADJUST_MS) {
      adjustedMs = nowMs
      const factor = utilization() > BUSY ? SLOWER : FASTER
      perSecond = Math.min(Math.max(perSecond * factor, PER_SECOND.least), PER_SECOND.most)
    }
    tokens = Math.min(tokens + ((nowMs - atMs) / 1_000) * perSecond, perSecond * (ADJUST_MS / 1_000))
    atMs = nowMs
  }

  function available(): number {
    refill()
    return Math.max(0, Math.floor(tokens))
  }

  return {
    available,
    spend(deliveries) {
      tokens -= deliveries
    },
    async ready(stopping) {
      while (available() < 1 && !stopping.aborted) await sleep(PAUSE_MS, stopping)
    },
  }
}
