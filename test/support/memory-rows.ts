import {
  type BindingId,
  DELIVERY_STATES,
  type DeadLetterReason,
  type DeliveryId,
  type DeliveryState,
  type EventId,
  type InFlightDelivery,
  isSettled,
  type Lane,
  type Level,
  type OwedDelivery,
  type Target,
  type WorkerId,
} from '@curfew/domain'
import type { AttemptRecord, Settled } from '@curfew/ledger'

/** A row of `deliveries`, with the names of the schema. */
export interface MemoryDelivery {
  readonly id: DeliveryId
  readonly eventId: EventId
  readonly bindingId: BindingId
  target: Target
  readonly lane: Lane
  readonly plannedAt: Date
  /** The data for an attempt. Its counts are those at planning. The `sub` of its event is the subject that it names. */
  delivery: InFlightDelivery
  state: DeliveryState
  attempts: number
  retries: number
  refusals: number
  dueAt: Date | null
  leasedBy: WorkerId | null
  leasedAt: Date | null
  settledAt: Date | null
  level: Level | null
  deadLetterReason: DeadLetterReason | null
  supersededBy: DeliveryId | null
  /** The sealed message of the first attempt; null after it. */
  firstMessage: string | null
  /** The number of replays. */
  generation: number
  /** How long it is offered; null if it is sent. */
  readonly offerMs: number | null
  evidence: string | null
}

/** A row of `attempts`. */
export interface MemoryAttempt extends AttemptRecord {
  readonly deliveryId: DeliveryId
  readonly workerId: WorkerId
}

/** The error of a statement that the schema refuses. `code` is the SQLSTATE of a CHECK or of a key. */
export class MemoryConstraintError extends Error {
  readonly code: '23505' | '23514'

  constructor(code: '23505' | '23514', message: string) {
    super(message)
    this.code = code
  }
}

/**
 * A newly planned row. It is offered, leased to a worker, or pending and due since its event was accepted, `now` at the latest.
 *
 * @param bornAt the time by the database's clock.
 */
export function bornRow(
  { delivery, target, dueAt: notBefore, offerMs: offered }: OwedDelivery,
  { lane, workerId, now, bornAt }: { lane: Lane; workerId: WorkerId | null; now: Date; bornAt: Date },
): MemoryDelivery {
  const { id, eventId, bindingId } = delivery
  const acceptedMs = delivery.event.acceptedAt.getTime()
  const offerMs = offered ?? null
  const graceMs = notBefore === undefined ? 0 : notBefore.getTime() - acceptedMs
  const dueAt = new Date(Math.min(now.getTime(), acceptedMs) + graceMs)
  return {
    ...{ id, eventId, bindingId, lane, target, delivery, plannedAt: now },
    ...{ attempts: 0, retries: 0, refusals: 0, firstMessage: delivery.firstMessage ?? null },
    ...{ settledAt: null, level: null, deadLetterReason: null, supersededBy: null, generation: 0 },
    ...{ offerMs, evidence: null },
    ...(offerMs !== null
      ? { state: 'offered', dueAt: new Date(now.getTime() + offerMs), leasedBy: null, leasedAt: null }
      : workerId !== null
        ? { state: 'in_flight', dueAt: null, leasedBy: workerId, leasedAt: bornAt }
        : { state: 'pending', dueAt, leasedBy: null, leasedAt: null }),
  }
}

/** The changes to a row when its delivery is settled. */
export function settledAs(
  row: MemoryDelivery,
  {
    made,
    settlement: said,
    leased,
    now,
  }: Pick<Settled, 'settlement' | 'leased'> & { made: number; now: Date },
): Partial<MemoryDelivery> {
  const { retries, refusals } = said.state === 'pending' ? said : leased
  const endMs = (at: Date | null) => at?.getTime() ?? Number.POSITIVE_INFINITY
  const extended = said.state === 'lapsed' && endMs(row.delivery.sessionEndsAt) > endMs(leased.sessionEndsAt)
  const settlement = extended ? ({ state: 'pending', dueAt: now } as const) : said
  return {
    state: settlement.state,
    firstMessage: null,
    attempts: row.attempts + made,
    retries,
    refusals,
    dueAt: settlement.state === 'pending' ? settlement.dueAt : null,
    settledAt: settlement.state === 'pending' ? null : now,
    level: settlement.state === 'acknowledged' ? settlement.level : null,
    deadLetterReason: settlement.state === 'dead_lettered' ? settlement.reason : null,
  }
}

/** Orders the interactive lane first, then by binding. */
export function beforeInTurn(
  a: MemoryDelivery | undefined,
  b: MemoryDelivery | undefined,
  after: number,
): number {
  if (a === undefined || b === undefined) return 0
  if (a.lane !== b.lane) return a.lane === 'interactive' ? -1 : 1
  return Number(a.bindingId <= after) - Number(b.bindingId <= after) || a.bindingId - b.bindingId
}

export function byDue(a: MemoryDelivery, b: MemoryDelivery): number {
  return (a.dueAt?.getTime() ?? 0) - (b.dueAt?.getTime() ?? 0)
}

export function byPlanning(a: MemoryDelivery, b: MemoryDelivery): number {
  const apart = a.plannedAt.getTime() - b.plannedAt.getTime()
  if (apart !== 0) return apart
  return a.id < b.id ? -1 : Number(a.id > b.id)
}

/** Checks the CHECK constraints of the schema, by name. */
export function checkRow(row: MemoryDelivery): void {
  const unsettled = !isSettled(row.state)
  const fetched = row.offerMs !== null
  const held: Readonly<Record<string, boolean>> = {
    state_is_known: DELIVERY_STATES.includes(row.state),
    due_exactly_while_waiting: ['pending', 'offered'].includes(row.state) === (row.dueAt !== null),
    sent_or_offered: !unsettled || (row.state === 'offered') === fetched,
    fetched_without_attempts: !fetched || (row.attempts === 0 && row.firstMessage === null),
    evidence_of_fetched: row.evidence === null || (fetched && row.state === 'acknowledged'),
    leased_in_flight: row.state !== 'in_flight' || (row.leasedBy !== null && row.leasedAt !== null),
    settled_exactly_when_terminal: unsettled === (row.settledAt === null),
    level_exactly_when_acknowledged: (row.state === 'acknowledged') === (row.level !== null),
    reason_exactly_when_dead: (row.state === 'dead_lettered') === (row.deadLetterReason !== null),
    acknowledged_after_an_attempt: row.state !== 'acknowledged' || row.attempts > 0 || fetched,
    no_first_message_when_settled: row.firstMessage === null || row.settledAt === null,
    superseded_by_another: (row.state === 'superseded') === (row.supersededBy !== null),
    counts_are_not_negative: Math.min(row.attempts, row.retries, row.refusals) >= 0,
  }
  for (const [name, holds] of Object.entries(held)) {
    if (!holds) throw new MemoryConstraintError('23514', `delivery ${row.id} violates ${name}`)
  }
}

/** The last delivery in the chain of superseding ones. */
export function lastOf(
  row: MemoryDelivery,
  deliveries: ReadonlyMap<DeliveryId, MemoryDelivery>,
): MemoryDelivery {
  let last = row
  for (let links = 0; last.supersededBy !== null && links <= deliveries.size; links++) {
    last = deliveries.get(last.supersededBy) ?? last
  }
  return last
}
