import type { Histogram } from './histogram.ts'
import { spanStart, TICK_MS } from './spans.ts'

// The deliveries of one slot by tick, as a histogram. Its numbers are the tick's place in the slot, with the kind of the count.

const KINDS = ['planned', 'kept', 'broken'] as const
/** The kinds of counts. A delivery counts as planned, and later as kept or broken. */
export type CountKind = (typeof KINDS)[number]

/** The number, within its slot, of a count for a delivery whose event was accepted at `acceptedMs`. */
export function tickNumber(kind: CountKind, acceptedMs: number): number {
  const tick = Math.floor((acceptedMs - spanStart('slot', acceptedMs)) / TICK_MS)
  return tick * KINDS.length + KINDS.indexOf(kind)
}

/** Deliveries of some ticks. */
export interface TickCounts extends Readonly<Record<CountKind, number>> {
  /** Neither kept nor broken. */
  readonly unsettled: number
}

/** Sums up the ticks of an interval within one slot. @param ticks the histogram of that slot. */
export function sumTicks(ticks: Histogram, { fromMs, toMs }: { fromMs: number; toMs: number }): TickCounts {
  const sum = { planned: 0, kept: 0, broken: 0, unsettled: 0 }
  for (let ms = fromMs; ms < toMs; ms += TICK_MS) {
    const [planned, kept, broken] = KINDS.map((kind) => ticks.get(tickNumber(kind, ms)) ?? 0)
    if (planned === undefined || kept === undefined || broken === undefined) continue
    sum.planned += planned
    sum.kept += kept
    sum.broken += broken
    // A plan at which the projector failed is counted after its settlements.
    sum.unsettled += Math.max(0, planned - kept - broken)
  }
  return sum
}
