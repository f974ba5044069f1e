/** An answer whose time by the clock of Curfew is certain to lie behind us. */
export interface Dated {
  /** When Curfew made the answer, in milliseconds since 1970 by its clock. */
  readonly issuedMs: number
  /** The answer has every logout that was accepted before, by the same clock. */
  readonly asOfMs: number
  readonly maxStalenessMs: number
}

/** How old the state is. Every `nowMs` is the monotonic clock of this process; its wall clock does not matter. */
export interface Freshness {
  /** @returns whether the answer is newer than all answers before. */
  note(answer: Dated, nowMs: number): boolean
  /** By the clock of Curfew, in milliseconds since 1970; null before the first answer. */
  readonly asOfMs: number | null
  /** How old the state may be, in milliseconds. */
  readonly maxStalenessMs: number
  /** The age of the state, in milliseconds; null before the first answer. */
  ageMs(nowMs: number): number | null
  /** Whether the state is older than allowed, or there is none. */
  isStale(nowMs: number): boolean
  /** The clock of Curfew, in milliseconds since 1970. It may be later, but not earlier. */
  curfewMs(nowMs: number): number
}

/** How long a comparison of the clocks counts: clocks drift, and the clock of Curfew may be set back. */
const COMPARED_MS = 300_000

/**
 * Measures ages by the clock of Curfew. An answer cannot arrive before it was made, so the fastest recent answer tells best how far
 * the clocks are apart. An answer that was held back on its way is thus as old as it is, and not as old as it says.
 *
 * @param maxStalenessMs shortens what the feed allows.
 */
export function createFreshness(maxStalenessMs: number): Freshness {
  let asOfMs: number | null = null
  let allowedMs = maxStalenessMs
  let sinceMs = Number.NEGATIVE_INFINITY
  let aheadMs = Number.NEGATIVE_INFINITY
  let aheadBeforeMs = Number.NEGATIVE_INFINITY

  const curfewMs = (nowMs: number) => nowMs + Math.max(aheadMs, aheadBeforeMs)
  const ageMs = (nowMs: number) => (asOfMs === null ? null : Math.max(0, curfewMs(nowMs) - asOfMs))
  return {
    get asOfMs() {
      return asOfMs
    },
    get maxStalenessMs() {
      return allowedMs
    },
    note(answer, nowMs) {
      if (nowMs - sinceMs >= COMPARED_MS) {
        aheadBeforeMs = aheadMs
        aheadMs = Number.NEGATIVE_INFINITY
        sinceMs = nowMs
      }
      aheadMs = Math.max(aheadMs, answer.issuedMs - nowMs)
      if (asOfMs !== null && answer.asOfMs <= asOfMs) return false
      asOfMs = answer.asOfMs
      allowedMs = Math.min(maxStalenessMs, answer.maxStalenessMs)
      return true
    },
    ageMs,
    isStale: (nowMs) => asOfMs === null || curfewMs(nowMs) - asOfMs > allowedMs,
    curfewMs,
  }
}
