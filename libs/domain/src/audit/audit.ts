import { type DeliveryState, isSettled, type SettledState } from '../delivery/delivery.ts'
import { type Level, weaker } from '../delivery/level.ts'
import type { CheckSays } from './setup.ts'

export const AUDIT_FAILURES = ['session_survived', 'revived_by_refresh', 'not_delivered'] as const
export const AUDIT_OBSTACLES = [
  'login_failed',
  'not_logged_in',
  'check_unclear',
  'ended_otherwise',
  'not_accepted',
  'secrets_unreadable',
  'run_failed',
  'interrupted',
] as const
export type AuditFailure = (typeof AUDIT_FAILURES)[number]
export type AuditObstacle = (typeof AUDIT_OBSTACLES)[number]
export type AuditReason = AuditFailure | AuditObstacle

/** `inconclusive`: the audit could not find out whether the logout ends sessions. */
export type AuditOutcome =
  | { readonly result: 'passed'; readonly reason: null }
  | { readonly result: 'failed'; readonly reason: AuditFailure }
  | { readonly result: 'inconclusive'; readonly reason: AuditObstacle }

/** The progress of an audit after the login. Times are monotonic, in milliseconds. */
export type AuditState =
  /** Nothing shows yet that the session lives. */
  | { readonly phase: 'begun' }
  /** The session lives. The logout may be posted. */
  | { readonly phase: 'ready' }
  /** The logout is accepted, and the session was not seen over yet. */
  | { readonly phase: 'ending'; readonly acceptedMs: number; readonly says: CheckSays }
  /** The session was seen over. It must stay over until the refreshes have ended. */
  | { readonly phase: 'watching'; readonly acceptedMs: number; readonly overMs: number }
  | { readonly phase: 'over'; readonly acceptedMs: number; readonly overMs: number }
  /** `revived`: the session was seen over, and then alive. */
  | { readonly phase: 'survived'; readonly revived: boolean }
  | { readonly phase: 'stopped'; readonly reason: AuditObstacle }

export type AuditFact =
  /**
   * @property startedMs when the check was sent, and `atMs` when it was answered.
   * @property refreshedMs when the last refresh ended; null: no refresh was sent; infinity: one is under way.
   */
  | {
      readonly kind: 'checked'
      readonly says: CheckSays
      readonly startedMs: number
      readonly atMs: number
      readonly refreshedMs: number | null
    }
  | { readonly kind: 'accepted'; readonly atMs: number }
  | { readonly kind: 'hindered'; readonly reason: AuditObstacle }

export interface AuditLimits {
  /** The longest time that the session may survive the logout, in milliseconds. */
  readonly timeoutMs: number
  /** The time for which the session must stay over, after the last refresh, in milliseconds. */
  readonly watchMs: number
}

export const AUDIT_BEGUN: AuditState = { phase: 'begun' }

/** The state after a fact. A fact that does not belong to the state leaves it unchanged. */
export function advanceAudit(state: AuditState, fact: AuditFact, limits: AuditLimits): AuditState {
  if (hasEnded(state)) return state
  if (fact.kind === 'hindered') return { phase: 'stopped', reason: fact.reason }
  switch (state.phase) {
    case 'begun':
      return fact.kind === 'checked' ? begunWith(fact.says) : state
    case 'ready':
      return fact.kind === 'accepted' ? { phase: 'ending', acceptedMs: fact.atMs, says: 'logged_in' } : state
    case 'ending':
      return fact.kind === 'checked' ? endingWith(state, fact, limits) : state
    case 'watching':
      return fact.kind === 'checked' ? watchingWith(state, fact, limits) : state
  }
}

type Ended = Extract<AuditState, { phase: 'over' | 'survived' | 'stopped' }>

/** Whether no fact changes the state any more. */
export function hasEnded(state: AuditState): state is Ended {
  return state.phase === 'over' || state.phase === 'survived' || state.phase === 'stopped'
}

function begunWith(says: CheckSays): AuditState {
  switch (says) {
    case 'logged_in':
      return { phase: 'ready' }
    case 'logged_out':
      return { phase: 'stopped', reason: 'not_logged_in' }
    case 'unclear':
      return { phase: 'stopped', reason: 'check_unclear' }
  }
}

type Checked = Extract<AuditFact, { kind: 'checked' }>

/** The last check in time may be sent later by this time, in milliseconds, because the timers of a busy process are late. */
const LATE_MS = 250

function endingWith(
  { acceptedMs, says: before }: Extract<AuditState, { phase: 'ending' }>,
  { says, startedMs, atMs }: Checked,
  { timeoutMs }: AuditLimits,
): AuditState {
  const sentMs = startedMs - acceptedMs
  if (says === 'logged_out' && sentMs <= timeoutMs + LATE_MS)
    return { phase: 'watching', acceptedMs, overMs: atMs }
  // A check that was sent in time says nothing about the end of that time.
  if (sentMs < timeoutMs) return { phase: 'ending', acceptedMs, says }
  // A session that ends after its time has survived as well: the promise of the set-up is broken.
  return says === 'unclear' || (says === 'logged_out' && before === 'unclear')
    ? { phase: 'stopped', reason: 'check_unclear' }
    : { phase: 'survived', revived: false }
}

function watchingWith(
  state: Extract<AuditState, { phase: 'watching' }>,
  { says, atMs, refreshedMs }: Checked,
  { watchMs, timeoutMs }: AuditLimits,
): AuditState {
  const { acceptedMs, overMs } = state
  if (says === 'logged_in') return { phase: 'survived', revived: true }
  const quietMs = Math.max(overMs, refreshedMs ?? overMs) + watchMs
  if (says === 'logged_out') return atMs < quietMs ? state : { phase: 'over', acceptedMs, overMs }
  // An unclear answer proves nothing, so the watch goes on, but not for ever.
  return atMs < quietMs + timeoutMs ? state : { phase: 'stopped', reason: 'check_unclear' }
}

/** The deliveries of an audit's logout, together. */
export interface AuditDelivery {
  /** `pending`: at least one is not settled. */
  readonly state: SettledState | 'pending'
  /** The weakest acknowledgement; null unless acknowledged. */
  readonly level: Level | null
}

/** Sums up the deliveries of an audit's logout. @returns null if none is owed. */
export function summarizeAuditDeliveries(
  deliveries: readonly { readonly state: DeliveryState; readonly level: Level | null }[],
): AuditDelivery | null {
  if (deliveries.length === 0) return null
  const has = (...states: readonly DeliveryState[]) => deliveries.some(({ state }) => states.includes(state))
  if (has('dead_lettered')) return { state: 'dead_lettered', level: null }
  if (deliveries.some(({ state }) => !isSettled(state))) return { state: 'pending', level: null }
  const levels = deliveries.flatMap(({ level }) => (level === null ? [] : [level]))
  if (levels.length > 0) return { state: 'acknowledged', level: levels.reduce(weaker) }
  return { state: has('superseded') ? 'superseded' : 'lapsed', level: null }
}

/** Whether a logout may have reached the relying party: an attempt sent a request, or may be under way, or a newer logout covers it. */
export function wasSent(
  deliveries: readonly { readonly state: DeliveryState; readonly attempts: number }[],
): boolean {
  return deliveries.some(
    ({ state, attempts }) => attempts > 0 || state === 'in_flight' || state === 'superseded',
  )
}

/**
 * The outcome of an audit that has ended.
 *
 * @param delivery null if no delivery was owed, or none was planned in time.
 * @param sent whether the logout may have reached the relying party.
 */
export function concludeAudit(
  state: Ended,
  {
    delivery,
    sent,
    refreshes,
  }: { readonly delivery: AuditDelivery | null; readonly sent: boolean; readonly refreshes: boolean },
): AuditOutcome {
  switch (state.phase) {
    case 'over':
      // A session that ended by itself proves nothing about logouts.
      return sent ? { result: 'passed', reason: null } : { result: 'inconclusive', reason: 'ended_otherwise' }
    case 'stopped':
      return { result: 'inconclusive', reason: state.reason }
    case 'survived':
      if (state.revived && refreshes) return { result: 'failed', reason: 'revived_by_refresh' }
      return {
        result: 'failed',
        reason: delivery?.state === 'acknowledged' ? 'session_survived' : 'not_delivered',
      }
  }
}

const POLL_MS = { first: 100, max: 1_000 } as const

/**
 * The pause before the next check, in milliseconds. One check is sent when the time of the session is up.
 *
 * @param checks the number of checks since the logout was accepted.
 */
export function auditPauseMs(
  checks: number,
  state: AuditState,
  { timeoutMs, nowMs }: { readonly timeoutMs: number; readonly nowMs: number },
): number {
  const pauseMs = Math.min(POLL_MS.first * 1.5 ** checks, POLL_MS.max)
  const leftMs = state.phase === 'ending' ? state.acceptedMs + timeoutMs - nowMs : 0
  return leftMs > 0 ? Math.min(pauseMs, Math.ceil(leftMs)) : pauseMs
}
