import type { BindingId, DeliveryId, EventId, Sid } from '../ids.ts'
import type { LogoutEvent } from '../logout/event.ts'
import { mayName } from '../logout/names.ts'
import type { Binding } from '../registry/binding.ts'
import type { Level } from './level.ts'
import type { AttemptOutcome, UndeliverableReason } from './outcome.ts'
import { jittered, type RetryPolicy, retryDelayMs } from './retry.ts'

/** All states. `superseded` and `lapsed` are terminal like `acknowledged`; the ledger's CHECKs say the same. */
export const DELIVERY_STATES = [
  'pending',
  'in_flight',
  'acknowledged',
  'superseded',
  'lapsed',
  'dead_lettered',
] as const
export type DeliveryState = (typeof DELIVERY_STATES)[number]

/** Why a delivery was given up on. Each has something a person can do about it. */
export type DeadLetterReason =
  | UndeliverableReason
  | 'attempts_exhausted'
  | 'refused'
  | 'misconfigured'
  | 'endpoint_gone'
  /** The endpoint was down for as long as the whole schedule lasts; most of that time nobody even tried. */
  | 'unreachable'
  /** The ledger refused to record anything else of it. */
  | 'unrecordable'
  /** The relying party holds a session that began later, which a token for the subject would end, and no older one is known to name. */
  | 'later_session'

/** How often a delivery has been tried. */
export interface Tries {
  /** POSTs made, quick retries among them. */
  readonly attempts: number
  /** Steps used of `scheduleMs`. */
  readonly retries: number
  /** Steps used of `refusedScheduleMs`. */
  readonly refusals: number
}

/** A delivery under a lease: what a worker needs to attempt and to settle it. */
export interface InFlightDelivery extends Tries {
  readonly state: 'in_flight'
  readonly id: DeliveryId
  readonly bindingId: BindingId
  readonly eventId: EventId
  /** The session to name, or null for the subject. */
  readonly sid: Sid | null
  /** When that session ends by itself; null where nobody has said. */
  readonly sessionEndsAt: Date | null
  readonly event: Pick<LogoutEvent, 'iss' | 'givenId' | 'sub' | 'email' | 'scope' | 'lane' | 'acceptedAt'>
}

/** What becomes of a delivery. */
export type Settlement =
  | { readonly state: 'acknowledged'; readonly level: Level }
  | { readonly state: 'pending'; readonly dueAt: Date; readonly retries: number; readonly refusals: number }
  | { readonly state: 'dead_lettered'; readonly reason: DeadLetterReason }
  /** The session is over anyway: there is nothing left to log out of. */
  | { readonly state: 'lapsed' }

/**
 * Decides what becomes of a delivery after an attempt came to `outcome`. The whole machine: pure, total, and the
 * only place that knows it.
 *
 * @param random uniform in [0, 1); drives the jitter and nothing else.
 */
export function settle(
  delivery: Pick<InFlightDelivery, 'retries' | 'refusals' | 'sessionEndsAt'>,
  outcome: AttemptOutcome,
  policy: RetryPolicy,
  now: Date,
  random: number,
): Settlement {
  const settlement = settleByOutcome(delivery, outcome, policy, now, random)
  // To wait beyond the session's own end would be to wait for nothing.
  return settlement.state === 'pending' && hasLapsed(delivery, settlement.dueAt)
    ? { state: 'lapsed' }
    : settlement
}

/** Whether the session that a delivery would end is over by itself. */
export function hasLapsed({ sessionEndsAt }: Pick<InFlightDelivery, 'sessionEndsAt'>, now: Date): boolean {
  return sessionEndsAt !== null && sessionEndsAt <= now
}

function settleByOutcome(
  { retries, refusals }: Pick<Tries, 'retries' | 'refusals'>,
  outcome: AttemptOutcome,
  policy: RetryPolicy,
  now: Date,
  random: number,
): Settlement {
  const refused = (reason: DeadLetterReason): Settlement => {
    const delayMs = policy.refusedScheduleMs[refusals]
    if (delayMs === undefined) return { state: 'dead_lettered', reason }
    const waitMs = jittered(delayMs, policy.jitter, random)
    return { state: 'pending', dueAt: after(now, waitMs), retries, refusals: refusals + 1 }
  }
  switch (outcome.kind) {
    case 'acknowledged':
      return { state: 'acknowledged', level: outcome.level }
    case 'undeliverable': {
      // What an RP publishes passes like its refusals do: a deployment of its may show an empty key set for a moment.
      const ofThePeer = outcome.reason === 'no_encryption_key'
      return ofThePeer ? refused(outcome.reason) : { state: 'dead_lettered', reason: outcome.reason }
    }
    case 'unavailable': {
      const waitMs = retryDelayMs(policy, { retries, askedMs: outcome.retryAfterMs, random })
      if (waitMs === null) return { state: 'dead_lettered', reason: 'attempts_exhausted' }
      return { state: 'pending', dueAt: after(now, waitMs), retries: retries + 1, refusals }
    }
    case 'refused':
    case 'misconfigured': {
      if (disablesBinding(outcome)) return { state: 'dead_lettered', reason: 'endpoint_gone' }
      return refused(outcome.kind)
    }
  }
}

/** 410 Gone: the endpoint says that it will not come back, so nothing more is sent to it until its owner says otherwise. */
export function disablesBinding(outcome: AttemptOutcome): boolean {
  return outcome.kind === 'misconfigured' && outcome.status === 410
}

/** What telling a binding comes to that is there no more. */
export const CLIENT_REMOVED: AttemptOutcome = {
  kind: 'undeliverable',
  reason: 'client_removed',
  detail: 'the relying party is no longer registered',
}

/** Why a delivery to `binding` cannot be made, if that is so, before any attempt. */
export function undeliverable(
  binding: Binding,
  { sid, event }: { readonly sid: Sid | null; readonly event: Pick<LogoutEvent, 'scope'> },
): AttemptOutcome | null {
  if (binding.disabledReason !== null) {
    return { kind: 'undeliverable', reason: 'binding_disabled', detail: binding.disabledReason }
  }
  if (binding.names === 'session' && sid === null) {
    return {
      kind: 'undeliverable',
      reason: 'sid_required',
      detail: 'the relying party requires a sid and the event names none',
    }
  }
  if (!mayName(event, binding)) {
    const detail = 'the channel names users only, and the logout is not of all sessions of the user'
    return { kind: 'undeliverable', reason: 'widen_required', detail }
  }
  return null
}

function after(now: Date, delayMs: number): Date {
  return new Date(now.getTime() + delayMs)
}
