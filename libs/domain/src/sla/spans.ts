// Which rollups are to be read for a time. All times are milliseconds of the epoch, all spans of UTC.

/** Lengths of the spans that deliveries are filed under, by when their event was accepted. The finest is called a slot. */
export const SLA_SPANS = { slot: 300_000, hour: 3_600_000, day: 86_400_000 } as const
export type SlaSpan = keyof typeof SLA_SPANS

/** How far back burn rates look, in milliseconds, the shortest first. */
export const BURN_WINDOWS = { '5m': 300_000, '30m': 1_800_000, '1h': 3_600_000, '6h': 21_600_000 } as const
export type BurnWindow = keyof typeof BURN_WINDOWS

/** The beginning of the span that a time lies in. */
export function spanStart(span: SlaSpan, atMs: number): number {
  return Math.floor(atMs / SLA_SPANS[span]) * SLA_SPANS[span]
}

/** The beginning of the span after the one that a time lies in; of one that begins then, that. */
export function spanEnd(span: SlaSpan, atMs: number): number {
  return spanStart(span, atMs - 1) + SLA_SPANS[span]
}

/** Rollups of one span one after the other, and what of them is asked for. */
export interface SlaInterval {
  readonly span: SlaSpan
  readonly fromMs: number
  readonly toMs: number
  /** Whether what was planned and settled is counted here. */
  readonly counted: boolean
  /** Whether the promise is past for all of it: what is not settled is overdue. */
  readonly past: boolean
}

/** Until when whatever was accepted is kept, broken or overdue; to the slot. */
function decidedUntil(nowMs: number, withinMs: number): number {
  return spanStart('slot', nowMs - withinMs)
}

/**
 * The few rollups that say of a time how the promise stands: days, and hours at its ends; of the one hour in which what is
 * overdue meets what has time left, the slots too.
 *
 * @param range from and to the full hour. @param byHour no days, so that each hour can be told apart.
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
      ? cut(hourMs, decidedMs, ['slot'], { counted: false, past: true })
      : []),
  ]
}

/**
 * The same for what burn rates look at, cut where each window begins: the part of a window is what no shorter one has. They look back
 * from the time until when it is decided what was kept. Of what was accepted since, nothing can be late yet, however slow it is; what of
 * it was kept would thin out what is broken, the more the longer the slot has lasted.
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
    parts.set(window, cut(fromMs, toMs, ['hour', 'slot'], { counted: true, past: true }))
    toMs = fromMs
  }
  return parts
}

/** A time cut into whole spans, the longest that fit. @param spans which there are, the longest first; both ends lie between the last. */
function cut(
  fromMs: number,
  toMs: number,
  spans: readonly SlaSpan[],
  what: Pick<SlaInterval, 'counted' | 'past'>,
): readonly SlaInterval[] {
  const [span, ...shorter] = spans
  if (span === undefined || fromMs >= toMs) return []
  const [first, last] = [spanEnd(span, fromMs), spanStart(span, toMs)]
  if (first >= last) return cut(fromMs, toMs, shorter, what)
  return [
    ...cut(fromMs, first, shorter, what),
    { span, fromMs: first, toMs: last, ...what },
    ...cut(last, toMs, shorter, what),
  ]
}
