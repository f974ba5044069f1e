import { type ChannelDelivery, weakestRequired } from '../delivery/channels.ts'
import type { DeliveryState } from '../delivery/delivery.ts'
import { atLeast, type Level } from '../delivery/level.ts'
import type { BurnWindow } from './spans.ts'

/** What is promised: so large a share of logouts is settled within so many milliseconds of their acceptance. */
export interface SlaPromise {
  readonly withinMs: number
  /** Above 0, below 1. */
  readonly objective: number
}

/** How a delivery ended. */
export interface DeliveryEnd {
  readonly state: Exclude<DeliveryState, 'pending' | 'in_flight'>
  /** What its acknowledgement asserts; null where it ended otherwise. */
  readonly level: Level | null
}

/** What is promised for the deliveries of one binding. */
export interface BindingPromise extends Pick<SlaPromise, 'withinMs'> {
  /** The weakest acknowledgement that keeps the promise. */
  readonly counts: Level
}

/** Whether a delivery that ended so, so many milliseconds after its event was accepted, was settled as promised. */
export function withinPromise(
  { state, level }: DeliveryEnd,
  elapsedMs: number,
  { withinMs, counts }: BindingPromise,
): boolean {
  if (state === 'dead_lettered' || elapsedMs > withinMs) return false
  return level === null || level === counts || atLeast(level, counts)
}

/** A delivery of one logout to a relying party that has several channels. */
export interface PartyDelivery extends ChannelDelivery, BindingPromise {
  readonly state: DeliveryState
  readonly level: Level | null
  /** From the acceptance of its event to its end; null where it has not ended. */
  readonly elapsedMs: number | null
  /** How often it was replayed. */
  readonly generation: number
}

/** How the promise stands with one logout at one relying party. */
export interface PartyVerdict {
  readonly verdict: 'kept' | 'broken' | 'open'
  /** From acceptance to the last acknowledgement that decided it; null where there is none. */
  readonly elapsedMs: number | null
}

/** How the promise stands with one logout at a relying party that has several channels. It counts once. */
export function partyVerdict(deliveries: readonly PartyDelivery[]): PartyVerdict {
  return weakestRequired(deliveries, {
    standingOf: deliveryVerdict,
    worse: worseVerdict,
    failed: ({ verdict }) => verdict === 'broken',
  })
}

/** From the best to the worst: nothing is decided while a delivery that counts is open. */
const VERDICTS: readonly PartyVerdict['verdict'][] = ['kept', 'broken', 'open']

function worseVerdict(one: PartyVerdict, other: PartyVerdict): PartyVerdict {
  const difference = VERDICTS.indexOf(one.verdict) - VERDICTS.indexOf(other.verdict)
  return (difference || (one.elapsedMs ?? -1) - (other.elapsedMs ?? -1)) >= 0 ? one : other
}

function deliveryVerdict(delivery: PartyDelivery): PartyVerdict {
  const { state, level, elapsedMs, generation } = delivery
  // A dead letter counts as it ended the first time, whatever its replay came to.
  if (generation > 0) return { verdict: 'broken', elapsedMs: null }
  if (state === 'pending' || state === 'in_flight' || elapsedMs === null)
    return { verdict: 'open', elapsedMs: null }
  const kept = withinPromise({ state, level }, elapsedMs, delivery)
  return { verdict: kept ? 'kept' : 'broken', elapsedMs: state === 'acknowledged' ? elapsedMs : null }
}

/**
 * Deliveries by how the promise stands with them; a logout at a relying party that has several channels counts as one. Each counts
 * once, as it ended the first time, whenever it was replayed.
 */
export interface SlaCounts {
  readonly planned: number
  /** Settled within the promise. */
  readonly kept: number
  /** Settled, but too late, or given up on. */
  readonly broken: number
  /** Not settled, and the promise is past. */
  readonly overdue: number
  /** How many of these may break it by what is promised: of each relying party's, the share that its objective leaves. */
  readonly allowed: number
}

export const NO_COUNTS: SlaCounts = { planned: 0, kept: 0, broken: 0, overdue: 0, allowed: 0 }

export function addCounts(a: SlaCounts, b: SlaCounts): SlaCounts {
  return {
    planned: a.planned + b.planned,
    kept: a.kept + b.kept,
    broken: a.broken + b.broken,
    overdue: a.overdue + b.overdue,
    allowed: a.allowed + b.allowed,
  }
}

/** Not settled, and there is time left. */
export function waitingOf({ planned, kept, broken, overdue }: SlaCounts): number {
  return Math.max(0, planned - kept - broken - overdue)
}

/** The share of what is decided that was kept; null where nothing is. */
export function shareKept({ kept, broken, overdue }: SlaCounts): number | null {
  const decided = kept + broken + overdue
  return decided === 0 ? null : kept / decided
}

/** How many may be broken, were, and may be yet (less than none where it is spent), and that as a share of the whole. */
export interface ErrorBudget {
  readonly allowed: number
  readonly spent: number
  readonly left: number
  readonly shareLeft: number
}

export function errorBudget({ broken, overdue, allowed }: SlaCounts): ErrorBudget {
  const spent = broken + overdue
  return { allowed, spent, left: allowed - spent, shareLeft: allowed === 0 ? 1 : 1 - spent / allowed }
}

/** How many times as fast as it may last for the whole window the budget is spent (SRE Workbook, chapter 5); null without traffic. */
export function burnRate({ broken, overdue, allowed }: SlaCounts): number | null {
  return allowed === 0 ? null : (broken + overdue) / allowed
}

export type BurnSeverity = 'page' | 'ticket'

/** Burns that somebody is told of: over the long window, and yet so over the short one, or it is over already (SRE Workbook, chapter 5, table 5-8). */
export const BURN_ALERTS = [
  { severity: 'page', long: '1h', short: '5m', rate: 14.4 },
  { severity: 'ticket', long: '6h', short: '30m', rate: 6 },
] as const satisfies readonly {
  severity: BurnSeverity
  long: BurnWindow
  short: BurnWindow
  rate: number
}[]

/** Fewer broken ones than this over the long window wake nobody: where there is little traffic, one would be a whole budget. */
export const BURN_LEAST = 10

/**
 * Where so little is promised that no budget can burn as fast as an alert asks, though all be broken, it holds when this share of all
 * is.
 */
const NEARLY_ALL = 0.9

/** Which of the alerts hold. */
export function burning(
  counts: Readonly<Record<BurnWindow, SlaCounts>>,
): readonly (typeof BURN_ALERTS)[number][] {
  return BURN_ALERTS.filter(({ long, short, rate }) => {
    const fast = (window: BurnWindow) => {
      const { kept, broken, overdue, allowed } = counts[window]
      const fastest = (kept + broken + overdue) / allowed
      return (burnRate(counts[window]) ?? 0) >= Math.min(rate, NEARLY_ALL * fastest)
    }
    const { broken, overdue } = counts[long]
    return broken + overdue >= BURN_LEAST && fast(long) && fast(short)
  })
}
