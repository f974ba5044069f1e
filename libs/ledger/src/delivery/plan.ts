import {
  type DeliveryId,
  type EventId,
  type LogoutEvent,
  type OwedDelivery,
  occurrenceOf,
  type PlanBasis,
  requestedAtOf,
} from '@curfew/domain'
import { deliveriesOf } from '../history/event-ranges.ts'
import { ACCEPTED_MS, journalPlanned, journalSettled, withAcceptance } from '../history/journal.ts'
import { issuerLogoutObject } from '../issuer-logout/jobs.ts'
import { plainArray } from '../postgres/arrays.ts'
import type { Database } from '../postgres/database.ts'
import { namedParameters, rowParameters } from '../postgres/parameters.ts'
import { endsAllOf } from '../sessions/order.ts'
import type { Lease } from './claim.ts'

/** An event to write, with the deliveries that it owes. */
export interface PlannedEvent {
  readonly event: LogoutEvent
  /** SHA-256 of `sameContent(event)`, in hexadecimal. */
  readonly digest: string
  readonly basis: PlanBasis
  readonly traceparent: string | null
  readonly deliveries: readonly (OwedDelivery & {
    /** True: born leased to the worker, which attempts it at once. False: born pending and due. */
    readonly leased: boolean
  })[]
}

export interface PlanRequest {
  readonly batch: readonly PlannedEvent[]
  /** The lease of the deliveries that are born leased. */
  readonly lease: Lease
  /**
   * Revision of the registry that the plan was made from. If the registry has changed since, nothing is written. Null: the
   * registry was read after the batch arrived, so it has every binding that the batch can be owed to.
   */
  readonly registryRevision: number | null
  readonly now: Date
}

/** The result of planning a batch. */
export type PlanResult =
  | {
      readonly ok: true
      /** Events that the ledger did not have. Only their deliveries are leased. */
      readonly planned: ReadonlySet<EventId>
      /** Events whose id the ledger has with another content. Nothing was written for them. */
      readonly conflicts: ReadonlySet<EventId>
      /** Planned deliveries that another way has made needless. They are settled, and not leased. */
      readonly needless: ReadonlySet<DeliveryId>
    }
  /** Nothing was written: the worker was declared dead, or the registry has changed since the plan was made. */
  | { readonly ok: false; readonly why: 'worker_lost' | 'registry_changed' }

const ONE = namedParameters({ worker: 'uuid', now: 'timestamptz', revision: 'bigint', lease: 'bigint' })
const { $ } = ONE

const EVENTS = rowParameters<PlannedEvent>(
  {
    id: ['uuid', ({ event }) => event.id],
    digest: ['word', ({ digest }) => digest],
    iss: ['text', ({ event }) => event.iss],
    sub: ['text', ({ event }) => event.sub],
    sid: ['text', ({ event }) => event.sid],
    scope: ['word', ({ event }) => event.scope],
    reason: ['word', ({ event }) => event.reason],
    initiator: ['text', ({ event }) => event.initiator],
    include_initiator: ['boolean', ({ event }) => event.includeInitiator],
    clients: ['jsonb', ({ event }) => (event.clients === null ? null : JSON.stringify(event.clients))],
    lane: ['word', ({ event }) => event.lane],
    occurred_at: ['timestamptz', ({ event }) => occurrenceOf(event)],
    accepted_at: ['timestamptz', ({ event }) => event.acceptedAt],
    plan_basis: ['word', ({ basis }) => basis],
    traceparent: ['text', ({ traceparent }) => traceparent],
    device: ['text', ({ event }) => (event.scope === 'device' ? event.device : null)],
    email: ['text', ({ event }) => event.email ?? null],
    parent_id: ['uuid', ({ event }) => event.parentId ?? null],
    requested_by: ['text', ({ event }) => (event.scope === 'issuer' ? event.requestedBy : null)],
    occurred_stated: ['boolean', ({ event }) => event.occurredAt !== null],
    requested_at: ['timestamptz', ({ event }) => requestedAtOf(event)],
    given_id: ['uuid', ({ event }) => event.givenId],
    relayed_for: ['text', ({ event }) => event.relayed?.clientId ?? null],
    txn: ['text', ({ event }) => event.txn ?? null],
  },
  { after: ONE },
)

const OWED = rowParameters<PlannedEvent['deliveries'][number]>(
  {
    id: ['uuid', ({ delivery }) => delivery.id],
    event_id: ['uuid', ({ delivery }) => delivery.eventId],
    binding_id: ['bigint', ({ delivery }) => delivery.bindingId],
    sid: ['text', ({ delivery }) => delivery.sid],
    leased: ['boolean', ({ leased }) => leased],
    target: ['uuid', ({ target }) => target],
    session_ends_at: ['timestamptz', ({ delivery }) => delivery.sessionEndsAt],
    first_message: ['text', ({ delivery }) => delivery.firstMessage ?? null],
    due_at: ['timestamptz', ({ dueAt }) => dueAt ?? null],
    posted_at: ['timestamptz', ({ postedAt }) => postedAt ?? null],
    sub: ['text', ({ own }) => own ?? null],
    sub_withheld: ['boolean', ({ own }) => own === null],
    offer_ms: ['bigint', ({ offerMs }) => offerMs ?? null],
  },
  { after: EVENTS },
)

/** How long after its acknowledgement a delivery makes the same logout by another way needless. */
const ACKNOWLEDGED_LATELY = "interval '1 minute'"
/** How long after a logout of a subject its deliveries are considered. */
const SUBJECT_LATELY = "interval '10 minutes'"
/**
 * The most logouts of a session that are considered, the latest first. An issuer that repeats the logout of one session for ever
 * must not slow down the plans of others. Beyond it an RP may be notified twice.
 */
const CONSIDERED_MAX = 1_000

// Deliveries of the same session that are owed because of another way, or were acknowledged lately. The relay is one way for each
// client that it gets tokens for; the posts of logout events are another. Two logouts by the same way are both delivered. An event
// that names only a subject is never needless.
const DELIVERED_OTHERWISE = `
  otherwise as materialized (
    select g.id as event_id, d.binding_id, d.id, d.sid, d.state, d.lane, g.lane as new_lane, x.accepted_at,
           x.email is null or g.email is not null as email_is_kept, d.first_message is not null as is_own,
           case when not d.sub_withheld then coalesce(d.sub, x.sub) end as named
      from given g
      cross join lateral (
        select id, accepted_at, email, sub from (
          select id, accepted_at, email, sub, relayed_for from events
           where iss = g.iss and sid = g.sid and g.relayed_for is not null
           order by planned_at desc limit ${CONSIDERED_MAX}
        ) latest where relayed_for is distinct from g.relayed_for
        union
        select id, accepted_at, email, sub from (
          select id, accepted_at, email, sub from events
           where iss = g.iss and sid = g.sid and g.relayed_for is null and relayed_for is not null
           order by planned_at desc limit ${CONSIDERED_MAX}
        ) latest
        union
        select id, accepted_at, email, sub from (
          select id, accepted_at, email, sub, relayed_for from events
           where iss = g.iss and sub = g.sub and g.relayed_for is not null
             and requested_at > ${$.now} - ${SUBJECT_LATELY}
           order by requested_at desc limit ${CONSIDERED_MAX}
        ) latest where relayed_for is null
      ) x
      cross join lateral (
        select * from deliveries w
         where w.id between ${deliveriesOf('x.id').lowest} and ${deliveriesOf('x.id').highest} and w.event_id = x.id offset 0
      ) d
     where g.scope = 'session' and x.id <> g.id and d.sid = g.sid
       and (d.state in ('pending', 'in_flight') and not d.fetched or d.state = 'acknowledged' and d.settled_at > ${$.now} - ${ACKNOWLEDGED_LATELY})
  )`

// Whether the delivery \`o\` of \`otherwise\` makes the new delivery \`d\` needless. A client's own token is sent beside a message that is
// being sent, because the RP may refuse a message that Curfew signed. For the same reason a token that waits stays. A delivery that
// may start at once supersedes any other waiting one instead. A delivery that names another subject may end another session. A bulk delivery that may still wait makes no interactive one needless. A session that was posted again since may have begun after the other logout.
const NAMES_THE_SAME = (named: string) => `coalesce(o.named = ${named}, true)`
const IS_NEEDLESS = `
  ${NAMES_THE_SAME('case when not d.sub_withheld then coalesce(d.sub, given.sub) end')} and (case o.state when 'acknowledged' then true
     when 'in_flight' then d.first_message is null and (o.lane = 'interactive' or o.new_lane = 'bulk')
     else o.lane = 'interactive'
      and (d.due_at is not null or o.is_own and d.first_message is null or o.new_lane = 'bulk') end)
  and (d.posted_at is null or d.posted_at <= o.accepted_at)`

// Locks the worker's row first: the worker cannot be declared dead while this runs, so no lease goes to a dead worker.
// Compares the registry's revision in the same snapshot: a binding registered before the event was posted is in the plan, even
// if the worker's copy of the registry is old. Leases are dated by the database's clock, like heartbeats.
// A planned delivery supersedes those that wait for the same target at the same binding: an RP that was unavailable for an hour
// gets one logout for each session. A delivery that is being claimed meanwhile is sent as well, which does no harm.
// A later logout supersedes a delivery for the subject only if it ends every session that the older logout ends (`endsAllOf`).
// Otherwise the newer delivery could be withheld, and a session of the older logout would survive. For the same reason a delivery that
// names no subject supersedes none that names one: it may fail for want of a subject. A logout without an email supersedes none with one.
// A bulk delivery supersedes no interactive one: a person's click would wait in the bulk lane.
// A new pending delivery is due at the earlier of its event's acceptance and `now` (PostgreSQL's clock). With `now` alone, a
// delivery that was planned while that clock ran ahead would wait after the clock is corrected. The grace of a widened delivery
// counts from the same time: with the acceptance alone, it would wait for as long as the clock of ingest is ahead.
// An issuer logout becomes a job, which is done at once if the plan's basis is not `sessions`. The audit log names its requester.
const PLAN_EVENTS = `
  with me as (select id from workers where id = ${$.worker} for key share),
  current as (select revision from registry_revision where ${$.revision} is null or revision = ${$.revision}),
  given as (
    select * from ${EVENTS.as('e')}
  ),
  planned as (
    insert into events (id, digest, iss, sub, sid, scope, reason, initiator, include_initiator, clients, lane,
      occurred_at, accepted_at, plan_basis, traceparent, device, email, parent_id, occurred_stated, requested_at, given_id,
      relayed_for, txn, planned_at, registry_revision)
    select g.id, decode(g.digest, 'hex'), iss, sub, sid, scope, reason, initiator, include_initiator,
      case when g.clients is not null then array(select jsonb_array_elements_text(g.clients)) end, lane,
      occurred_at, accepted_at, plan_basis, traceparent, device, email, parent_id, occurred_stated, requested_at, given_id,
      relayed_for, txn, ${$.now}, current.revision
      from given g, me, current order by g.id
    on conflict (id) do nothing
    returning id, lane, scope
  ),
  ${DELIVERED_OTHERWISE},
  issuer_logout as (
    insert into issuer_logouts (event_id, iss, requested_by, requested_at, state, ended_at, total, exhausted)
    select g.id, g.iss, g.requested_by, g.accepted_at, known.state, known.ended_at, known.total, known.state = 'done'
      from planned
      join given g on g.id = planned.id
     cross join lateral (
       select case g.plan_basis when 'sessions' then 'running' else 'done' end as state,
              case g.plan_basis when 'sessions' then null else ${$.now} end as ended_at,
              case g.plan_basis when 'sessions' then null else 0 end as total
     ) known
     where planned.scope = 'issuer'
    returning event_id, iss, requested_by, (select given_id from given where given.id = event_id) as given_id
  ),
  audited as (
    insert into audit (credential, action, object, detail)
    select requested_by, 'issuer_logout.requested', ${issuerLogoutObject('issuer_logout')}, jsonb_build_object('iss', iss)
      from issuer_logout
  ),
  owed as (
    insert into deliveries (id, event_id, binding_id, sid, lane, target, session_ends_at, state, due_at, leased_by,
      leased_at, planned_at, settled_at, superseded_by, first_message, sub, sub_withheld, fetched)
    select d.id, d.event_id, d.binding_id, d.sid, planned.lane, d.target, d.session_ends_at, born.state,
      case born.state when 'pending' then
        least(${$.now}, given.accepted_at) + coalesce(d.due_at - given.accepted_at, '0')
        when 'offered' then ${$.now} + make_interval(secs => d.offer_ms / 1000.0) end,
      case born.state when 'in_flight' then ${$.worker} end, case born.state when 'in_flight' then now() end, ${$.now},
      case born.state when 'superseded' then ${$.now} end, other.id,
      case when born.state <> 'superseded' then d.first_message end, d.sub, d.sub_withheld, d.offer_ms is not null
      from ${OWED.as('d')}
      join planned on planned.id = d.event_id
      join given on given.id = d.event_id
      left join lateral (
        select o.id from otherwise o
         where o.event_id = d.event_id and o.binding_id = d.binding_id and o.sid = d.sid
           and ${IS_NEEDLESS}
         order by o.state limit 1
      ) other on true
      cross join lateral (
        select case when other.id is not null then 'superseded' when d.offer_ms is not null then 'offered' when d.leased then 'in_flight' else 'pending' end as state
      ) born
    returning id, event_id, binding_id, target, sid, leased_at, state, generation, sub, sub_withheld
  ),
  leased as (
    insert into leases (worker_id, number, leased_at, delivery_ids)
    select ${$.worker}, ${$.lease}, leased_at, array_agg(id) from owed where leased_at is not null group by leased_at
  ),
  covered as (
    update deliveries d
       set state = 'superseded', due_at = null, settled_at = ${$.now}, superseded_by = older.covered_by,
           first_message = null
      from (
        select found.id, owed.id as covered_by
          from (select * from owed where state <> 'superseded') owed
          cross join lateral (
            select w.id from deliveries w
             where w.binding_id = owed.binding_id and w.target = owed.target and w.due_at is not null
               and exists (
                 select from events older join given newer on newer.id = owed.event_id
                  where older.id = w.event_id and (older.email is null or newer.email is not null)
                    and (w.lane = 'bulk' or newer.lane = 'interactive')
                    and (owed.sid is not null or ${endsAllOf('newer', 'older')}))
               for update skip locked
          ) found
        union
        select found.id, owed.id
          from (select * from owed where state <> 'superseded') owed
          join given newer on newer.id = owed.event_id
          join otherwise o on o.event_id = owed.event_id and o.binding_id = owed.binding_id and o.sid = owed.sid
           and (o.named is null or o.named = case when not owed.sub_withheld then coalesce(owed.sub, newer.sub) end)
          cross join lateral (
            select w.id from deliveries w
             where w.id = o.id and w.due_at is not null and o.email_is_kept for update skip locked
          ) found
      ) older
     where d.id = older.id
    returning d.id, d.event_id, d.binding_id, d.state, d.generation
  ),
  journalled as (
    ${journalPlanned({
      at: $.now,
      eventIds: '(select array_agg(id) from planned)',
      from: `(select owed.id, owed.binding_id, ${ACCEPTED_MS} from owed join given e on e.id = owed.event_id) d`,
    })}
  ),
  journalled_covered as (
    ${journalSettled(
      `(
        select * from ${withAcceptance('covered')}
        union all
        select owed.id, event_id, binding_id, state, generation, ${ACCEPTED_MS}
          from owed join given e on e.id = owed.event_id where state = 'superseded'
      ) d`,
      $.now,
    )}
  )
  select me.id as worker, exists (select from current) as current, (select array_agg(id) from planned) as planned,
         (select array_agg(id) from owed where state = 'superseded') as needless
    from (select 1) one left join me on true`

// A separate statement: the snapshot of PLAN_EVENTS lacks rows that another worker committed while PLAN_EVENTS waited for them.
const FIND_CONFLICTS = `
  select e.id
    from unnest($1::uuid[], $2::text[]) as given(id, digest)
    join events e on e.id = given.id and e.digest <> decode(given.digest, 'hex')`

interface PlanRow {
  readonly worker: string | null
  readonly current: boolean
  readonly planned: EventId[] | null
  readonly needless: DeliveryId[] | null
}

/**
 * Writes a batch of events and the deliveries they owe, in one statement and so in one transaction. A record that comes several
 * times is written once. Event ids must be unique within `batch`.
 */
export async function planEvents(
  db: Database,
  { batch, lease, registryRevision, now }: PlanRequest,
): Promise<PlanResult> {
  const { rows } = await db.query<PlanRow>({
    name: 'plan_events',
    text: PLAN_EVENTS,
    values: [
      ...ONE.values({ worker: lease.workerId, now, revision: registryRevision, lease: lease.number }),
      ...EVENTS.values(batch),
      ...OWED.values(batch.flatMap(({ deliveries }) => deliveries)),
    ],
  })
  const [row] = rows
  if (row === undefined || row.worker === null) return { ok: false, why: 'worker_lost' }
  if (!row.current) return { ok: false, why: 'registry_changed' }
  const planned = new Set(row.planned ?? [])
  const known = batch.filter(({ event }) => !planned.has(event.id))
  const conflicts = known.length === 0 ? new Set<EventId>() : await findConflicts(db, known)
  return { ok: true, planned, conflicts, needless: new Set(row.needless ?? []) }
}

/** The ids of events in `batch` that the ledger has with another content. */
async function findConflicts(db: Database, batch: readonly PlannedEvent[]): Promise<ReadonlySet<EventId>> {
  const { rows } = await db.query<{ id: EventId }>({
    name: 'find_conflicts',
    text: FIND_CONFLICTS,
    values: [plainArray(batch.map(({ event }) => event.id)), plainArray(batch.map(({ digest }) => digest))],
  })
  return new Set(rows.map(({ id }) => id))
}
