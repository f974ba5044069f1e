import type { BindingId, DeliveryId, EventId, Sid } from '../ids.ts'
import type { LogoutEvent } from '../logout/event.ts'
import { mayName } from '../logout/names.ts'
import type { Binding } from '../registry/binding.ts'
import type { Level } from './level.ts'
import type { AttemptOutcome, UndeliverableReason } from './outcome.ts'
import { jittered, type RetryPolicy, retryDelayMs } from './retry.ts'

/**
 * All states. A delivery of a push channel is `pending` and `in_flight` until it is settled; one of a pull channel is `offered`.
 * `superseded` and `lapsed` are final like `acknowledged`. The ledger's CHECK constraints enforce the same rules.
 */
export const DELIVERY_STATES = [
  'pending',
  'in_flight',
  'offered',
  'acknowledged',
  'superseded',
  'lapsed',
  'dead_lettered',
] as const
export type DeliveryState = (typeof DELIVERY_STATES)[number]
/** A state in which a delivery is settled. A replay may continue a dead letter. */
export type SettledState = Exclude<DeliveryState, 'pending' | 'in_flight' | 'offered'>

/** Whether a delivery in this state is settled. */
export function isSettled(state: DeliveryState): state is SettledState {
  return state !== 'pending' && state !== 'in_flight' && state !== 'offered'
}

/** Why a delivery became a dead letter. A person can act on every reason. */
export type DeadLetterReason =
  | UndeliverableReason
  | 'attempts_exhausted'
  | 'refused'
  | 'misconfigured'
  | 'endpoint_gone'
  /** The breaker was open for the length of the whole schedule, so that most attempts were skipped. */
  | 'unreachable'
  /** The ledger refused to record any other result. */
  | 'unrecordable'
  /**
   * A token for the subject would end a later session of the relying party, and no older session is known that could be named.
   */
  | 'later_session'
  /** The relying party did not fetch it in time. */
  | 'not_fetched'

/** The attempts of a delivery so far. */
export interface Tries {
  /** POSTs, including quick retries. */
  readonly attempts: number
  /** Used steps of `scheduleMs`. */
  readonly retries: number
  /** Used steps of `refusedScheduleMs`. */
  readonly refusals: number
}

/** The trace context of a logout, beside its event. */
export interface Traced {
  /** The W3C `traceparent` that the event was planned under: the parent of the spans of its attempts. Null if it has none. */
  readonly traceparent: string | null
}

/** A leased delivery, with the data that a worker needs to attempt and settle it. */
export interface InFlightDelivery extends Tries {
  readonly state: 'in_flight'
  readonly id: DeliveryId
  readonly bindingId: BindingId
  readonly eventId: EventId
  /** The session to name, or null for the subject. */
  readonly sid: Sid | null
  /** When that session ends by itself; null if it has no end, or none is known. */
  readonly sessionEndsAt: Date | null
  /** Its event. `sub` is the subject that the delivery names, which may be another name of the event's subject. */
  readonly event: Pick<
    LogoutEvent,
    'iss' | 'givenId' | 'sub' | 'email' | 'scope' | 'lane' | 'acceptedAt' | 'txn'
  > &
    Traced
  /** The sealed message that the first attempt sends. Absent if every attempt makes its own message. */
  readonly firstMessage?: string
}

/** The next state of a delivery. */
export type Settlement =
  | { readonly state: 'acknowledged'; readonly level: Level }
  | { readonly state: 'pending'; readonly dueAt: Date; readonly retries: number; readonly refusals: number }
  | { readonly state: 'dead_lettered'; readonly reason: DeadLetterReason }
  /** The session has ended by itself, so that no logout is needed. */
  | { readonly state: 'lapsed' }

/**
 * Decides the next state of a delivery after an attempt. This pure function is the whole state machine; no other code decides it.
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
  // A delivery that would wait until after the session's end lapses at once.
  return settlement.state === 'pending' && hasLapsed(delivery, settlement.dueAt)
    ? { state: 'lapsed' }
    : settlement
}

/** Whether the session of a delivery has ended by itself. */
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
      // A missing encryption key may pass like a refusal: during its deployment, an RP may briefly publish an empty key set.
      const mayPass = outcome.reason === 'no_encryption_key'
      return mayPass ? refused(outcome.reason) : { state: 'dead_lettered', reason: outcome.reason }
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

/** Whether an outcome disables the binding: 410 Gone says that the endpoint will not return. The owner can enable it again. */
export function disablesBinding(outcome: AttemptOutcome): boolean {
  return outcome.kind === 'misconfigured' && outcome.status === 410
}

/** The outcome of a delivery to a removed binding. */
export const CLIENT_REMOVED: AttemptOutcome = {
  kind: 'undeliverable',
  reason: 'client_removed',
  detail: 'the relying party is not registered',
}

/** The outcome of a delivery that cannot be attempted; null if it can. */
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
      detail: 'the relying party requires a sid, and the event names none',
    }
  }
  if (!mayName(event, binding)) {
    const detail = 'the channel ends all sessions of a user, and the logout is not for all of them'
    return { kind: 'undeliverable', reason: 'widen_required', detail }
  }
  return null
}

function after(now: Date, delayMs: number): Date {
  return new Date(now.getTime() + delayMs)
}
