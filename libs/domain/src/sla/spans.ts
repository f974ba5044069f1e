// Selects the rollups to read for an interval. All times are milliseconds since 1970, and all spans are aligned to UTC.

/** The lengths of the rollups' spans, in milliseconds. A delivery belongs to the spans in which its event was accepted. */
export const SLA_SPANS = { slot: 300_000, hour: 3_600_000, day: 86_400_000 } as const
export type SlaSpan = keyof typeof SLA_SPANS

/** The length of a tick, in milliseconds. The rollup of a slot also counts by tick, so that a promise is judged within seconds. */
export const TICK_MS = 5_000

const LENGTHS = { tick: TICK_MS, ...SLA_SPANS } as const
type Length = keyof typeof LENGTHS

/** The windows of burn rates, in milliseconds, the shortest first. */
export const BURN_WINDOWS = { '5m': 300_000, '30m': 1_800_000, '1h': 3_600_000, '6h': 21_600_000 } as const
export type BurnWindow = keyof typeof BURN_WINDOWS

/** The start of the span that contains a time. */
export function spanStart(span: Length, atMs: number): number {
  return Math.floor(atMs / LENGTHS[span]) * LENGTHS[span]
}

/** The first start of a span at or after a time. */
export function spanEnd(span: Length, atMs: number): number {
  return spanStart(span, atMs - 1) + LENGTHS[span]
}

/** Consecutive rollups of one span, and the counts that are needed of them. */
export interface SlaInterval {
  /** `tick`: some ticks of one slot. */
  readonly span: Length
  readonly fromMs: number
  readonly toMs: number
  /** Whether planned, kept and broken deliveries are counted from these rollups. */
  readonly counted: boolean
  /** Whether the time limit has passed for the whole interval, so that unsettled deliveries are overdue. */
  readonly past: boolean
}

/** The start of the tick up to which every accepted logout is kept, broken or overdue. */
function decidedUntil(nowMs: number, withinMs: number): number {
  return spanStart('tick', nowMs - withinMs)
}

/**
 * The fewest rollups that cover an interval: days, and hours at both ends. The hour in which deliveries begin to be overdue is
 * also read in slots and ticks.
 *
 * @param range the interval, between full hours. @param byHour true to use no days, so that every hour is separate.
 */
export function intervalsOf(
  { fromMs, toMs }: { fromMs: number; toMs: number },
  { nowMs, withinMs, byHour = false }: { nowMs: number; withinMs: number; byHour?: boolean },
): readonly SlaInterval[] {
  const spans = byHour ? (['hour'] as const) : (['day', 'hour'] as const)
  const decidedMs = decidedUntil(nowMs, withinMs)
  const hourMs = spanStart('hour', decidedMs)
  return [
    ...cut(fromMs, Math.min(toMs, hourMs), spans, { counted: true, past: true }),
    ...cut(Math.max(fromMs, hourMs), toMs, spans, { counted: true, past: false }),
    ...(fromMs <= hourMs && hourMs < toMs
      ? cut(hourMs, decidedMs, ['slot', 'tick'], { counted: false, past: true })
      : []),
  ]
}

/**
 * The rollups for burn rates. The part of a window excludes the shorter windows. Windows slide by a tick.
 *
 * All windows end at the time up to which every logout is decided. Later logouts cannot be overdue yet, but some of them are kept
 * already, so they would lower the burn rate.
 */
export function burnIntervals({
  nowMs,
  withinMs,
}: {
  nowMs: number
  withinMs: number
}): ReadonlyMap<BurnWindow, readonly SlaInterval[]> {
  const parts = new Map<BurnWindow, readonly SlaInterval[]>()
  let toMs = decidedUntil(nowMs, withinMs)
  for (const [window, lengthMs] of Object.entries(BURN_WINDOWS) as [BurnWindow, number][]) {
    const fromMs = decidedUntil(nowMs, withinMs + lengthMs)
    parts.set(window, cut(fromMs, toMs, ['hour', 'slot', 'tick'], { counted: true, past: true }))
    toMs = fromMs
  }
  return parts
}

/**
 * Cuts an interval into the longest spans that fit. No part crosses the start of a longer span.
 *
 * @param spans the available spans, the longest first; the ends align to the last.
 */
function cut(
  fromMs: number,
  toMs: number,
  spans: readonly Length[],
  flags: Pick<SlaInterval, 'counted' | 'past'>,
): readonly SlaInterval[] {
  const [span, ...shorter] = spans
  if (span === undefined || fromMs >= toMs) return []
  const [first, last] = [spanEnd(span, fromMs), spanStart(span, toMs)]
  if (first > last) return cut(fromMs, toMs, shorter, flags)
  return [
    ...cut(fromMs, first, shorter, flags),
    ...(first < last ? [{ span, fromMs: first, toMs: last, ...flags }] : []),
    ...cut(last, toMs, shorter, flags),
  ]
}
