import { hash } from 'node:crypto'
import {
  type Binding,
  type DeadLetterReason,
  type DeliveryId,
  type InFlightDelivery,
  type OwedDelivery,
  type OwingEvent,
  REASONS_OF_REMOVAL,
  REASONS_WITHOUT_SUCCESSOR,
  type Subject,
  type Successor,
  successionOf,
} from '@curfew/domain'
import { eventRanges } from '../history/event-ranges.ts'
import { plainArray } from '../postgres/arrays.ts'
import type { Queryable } from '../postgres/database.ts'
import { oweDeliveries } from '../sessions/session-states.ts'
import { subjectNamed } from './event-subjects.ts'
import { newGeneration } from './replays.ts'

// The current bindings of the relying party of each dead letter. Without the dead letter's own binding, unless it was removed and may
// be registered again. `offset 0` keeps each subquery a lookup: without it, the planner reads large tables as a whole. A delivery of
// a relying party with one channel, the usual case, finds no row.
const SUCCESSORS = `
  select g.id as dead, d.kind as "deadKind", d.always as "deadAlways", d.reason, d.sid, d.session_ends_at as "sessionEndsAt",
         ${subjectNamed()} as named,
         e.id as "eventId", e.iss, e.given_id as "givenId", e.sub, e.scope, e.lane, e.accepted_at as "acceptedAt", e.traceparent,
         f.id, f.kind, f.offer, f.fallback_for as "fallbackFor", f.names, f.widens, f.always,
         exists (
           select from deliveries w
            where w.binding_id = f.id and w.id between g.low and g.high and w.event_id = d.event_id
              and (w.dead_letter_reason is null or w.dead_letter_reason <> all($5::text[]))
              and (d.sid is null or w.sid is null or w.sid = d.sid)
              and w.sub is not distinct from d.sub and w.sub_withheld = d.sub_withheld
         ) as delivered
    from unnest($1::uuid[], $2::uuid[], $3::uuid[]) as g(id, low, high)
    cross join lateral (
      select l.event_id, l.binding_id, l.sid, l.sub, l.sub_withheld, l.session_ends_at, l.dead_letter_reason as reason, b.kind, b.always, b.relying_party_id
        from deliveries l join bindings b on b.id = l.binding_id
       where l.id = g.id and l.state = 'dead_lettered' and l.dead_letter_reason <> all($4::text[]) offset 0
    ) d
    join bindings f on f.relying_party_id = d.relying_party_id and f.registered
     and (f.id <> d.binding_id or d.reason = any($5::text[]))
    join relying_parties p on p.id = f.relying_party_id and p.deleted_at is null
    cross join lateral (select * from events where id = d.event_id offset 0) e`

interface SuccessorRow
  extends Omit<OwingEvent, 'id'>,
    Pick<InFlightDelivery, 'eventId' | 'sid' | 'sessionEndsAt'>,
    Successor {
  readonly dead: DeliveryId
  /** The subject that the dead letter names; null if it names none. */
  readonly named: Subject | null
  readonly deadKind: Binding['kind']
  readonly deadAlways: Binding['always']
  readonly reason: DeadLetterReason
}

const digest = (text: string) => hash('sha256', text)

/**
 * Owes each dead letter among these deliveries to other channels of its relying party: see `successionOf`.
 *
 * @param transaction the one that ended the deliveries: no reader finds the event settled in between, and a crash loses no
 * delivery.
 */
export async function oweSuccessors(transaction: Queryable, ids: readonly DeliveryId[]): Promise<void> {
  if (ids.length === 0) return
  const { rows } = await transaction.query<SuccessorRow>({
    name: 'successors',
    text: SUCCESSORS,
    values: [...eventRanges(ids), REASONS_WITHOUT_SUCCESSOR, REASONS_OF_REMOVAL],
  })
  const owed = new Map<DeliveryId, OwedDelivery>()
  for (const party of Map.groupBy(rows, ({ dead }) => dead).values()) {
    const [{ eventId, deadKind, deadAlways, reason, named: sub, ...event }] = party as [
      SuccessorRow,
      ...SuccessorRow[],
    ]
    const { sid, sessionEndsAt } = event
    const dead = { kind: deadKind, always: deadAlways, sid, sessionEndsAt, sub }
    for (const each of successionOf({ ...event, id: eventId }, dead, reason, party, digest))
      owed.set(each.delivery.id, each)
  }
  await oweDeliveries(transaction, [...owed.values()])
  await revive(transaction, [...owed.keys()])
}

// The pause keeps a worker with an old copy of the registry from taking the delivery again at once.
const REVIVE = `
  update deliveries d set ${newGeneration("now() + interval '5 seconds'")}
   where d.id = any($1::uuid[]) and d.state = 'dead_lettered' and d.dead_letter_reason = any($2::text[])`

/** Puts back deliveries that died because their binding was not registered, and that is registered again. */
async function revive(transaction: Queryable, ids: readonly DeliveryId[]): Promise<void> {
  if (ids.length === 0) return
  const values = [plainArray(ids), REASONS_OF_REMOVAL]
  await transaction.query({ name: 'revive_deliveries', text: REVIVE, values })
}
