import { type ChannelDelivery, weakestRequired } from '../delivery/channels.ts'
import { type DeliveryState, isSettled, type SettledState } from '../delivery/delivery.ts'
import { atLeast, type Level } from '../delivery/level.ts'
import type { BurnWindow } from './spans.ts'

/** The promise of an SLA: the share `objective` of all deliveries settles within `withinMs` after acceptance. */
export interface SlaPromise {
  readonly withinMs: number
  /** Between 0 and 1, exclusive. */
  readonly objective: number
}

/** How a delivery ended. */
export interface DeliveryEnd {
  readonly state: SettledState
  /** The level of the acknowledgement; null without one. */
  readonly level: Level | null
}

/** The promise for the deliveries to one binding. */
export interface BindingPromise extends Pick<SlaPromise, 'withinMs'> {
  /** The weakest level that keeps the promise. */
  readonly counts: Level
}

/** Whether a delivery kept its promise. @param elapsedMs the time from the acceptance of its event to its end. */
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
  /** The time from the acceptance of its event to its end; null if it has not ended. */
  readonly elapsedMs: number | null
  /** The number of replays. */
  readonly generation: number
}

/** Whether one logout at one relying party kept the promise. */
export interface PartyVerdict {
  readonly verdict: 'kept' | 'broken' | 'open'
  /** The time from acceptance to the acknowledgement that decided the verdict; null without one. */
  readonly elapsedMs: number | null
}

/** Decides whether one logout at a relying party with several channels kept the promise. The logout counts once. */
export function partyVerdict(deliveries: readonly PartyDelivery[]): PartyVerdict {
  return weakestRequired(deliveries, {
    statusOf: deliveryVerdict,
    worse: worseVerdict,
    failed: ({ verdict }) => verdict === 'broken',
  })
}

/** The verdicts from best to worst. `open` is the worst, because an open required delivery leaves the logout undecided. */
const VERDICTS: readonly PartyVerdict['verdict'][] = ['kept', 'broken', 'open']

function worseVerdict(one: PartyVerdict, other: PartyVerdict): PartyVerdict {
  const difference = VERDICTS.indexOf(one.verdict) - VERDICTS.indexOf(other.verdict)
  return (difference || (one.elapsedMs ?? -1) - (other.elapsedMs ?? -1)) >= 0 ? one : other
}

function deliveryVerdict(delivery: PartyDelivery): PartyVerdict {
  const { state, level, elapsedMs, generation } = delivery
  // A replayed delivery counts by its first end, which was a dead letter.
  if (generation > 0) return { verdict: 'broken', elapsedMs: null }
  if (!isSettled(state) || elapsedMs === null) return { verdict: 'open', elapsedMs: null }
  const kept = withinPromise({ state, level }, elapsedMs, delivery)
  return { verdict: kept ? 'kept' : 'broken', elapsedMs: state === 'acknowledged' ? elapsedMs : null }
}

/**
 * Counts of deliveries for the SLA. A logout at a relying party with several channels counts as one delivery. A replayed delivery
 * counts once, by its first end.
 */
export interface SlaCounts {
  readonly planned: number
  /** Settled within the promise. */
  readonly kept: number
  /** Settled too late, below the required level, or as a dead letter. */
  readonly broken: number
  /** Not settled within the time limit. */
  readonly overdue: number
  /** The error budget: how many deliveries may break the promise, by the objectives of their relying parties. */
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

/** The number of unsettled deliveries within the time limit. */
export function waitingOf({ planned, kept, broken, overdue }: SlaCounts): number {
  return Math.max(0, planned - kept - broken - overdue)
}

/** The kept share of the decided deliveries; null if none is decided. */
export function shareKept({ kept, broken, overdue }: SlaCounts): number | null {
  const decided = kept + broken + overdue
  return decided === 0 ? null : kept / decided
}

/** An error budget, in deliveries. */
export interface ErrorBudget {
  /** The whole budget. */
  readonly allowed: number
  readonly spent: number
  /** The rest of the budget; negative if more than the budget is spent. */
  readonly left: number
  /** `left` as a share of `allowed`. */
  readonly shareLeft: number
}

export function errorBudget({ broken, overdue, allowed }: SlaCounts): ErrorBudget {
  const spent = broken + overdue
  return { allowed, spent, left: allowed - spent, shareLeft: allowed === 0 ? 1 : 1 - spent / allowed }
}

/** The burn rate (SRE Workbook, chapter 5); null without traffic. At 1, the budget lasts exactly for the SLA window. */
export function burnRate({ broken, overdue, allowed }: SlaCounts): number | null {
  return allowed === 0 ? null : (broken + overdue) / allowed
}

export type BurnSeverity = 'page' | 'ticket'

/**
 * Alerts on burn rates (SRE Workbook, chapter 5, table 5-8). The short window must burn too, so that an alert ends with its
 * cause.
 */
export const BURN_ALERTS = [
  { severity: 'page', long: '1h', short: '5m', rate: 14.4 },
  { severity: 'ticket', long: '6h', short: '30m', rate: 6 },
] as const satisfies readonly {
  severity: BurnSeverity
  long: BurnWindow
  short: BurnWindow
  rate: number
}[]

/** The fewest broken deliveries in the long window for an alert. With little traffic, one alone would spend the whole budget. */
export const BURN_LEAST = 10

/**
 * The broken share at which an alert holds if its burn rate is out of reach. With a low objective, the burn rate stays below the
 * threshold even if all deliveries break the promise.
 */
const NEARLY_ALL = 0.9

/** The alerts that hold. */
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
