import { setImmediate } from 'node:timers/promises'
import { type BindingId, deliveryIdRange, type SettledEvent, type SettledTarget } from '@curfew/domain'
import { type BindingFacts, readBindingFacts } from '../delivery/binding-facts.ts'
import { eventRanges } from '../history/event-ranges.ts'
import type { JournalEntry } from '../history/journal.ts'
import { bindingsOf, SETTLED_TARGETS, type TargetColumns, toTargets } from '../history/settled-targets.ts'
import { plainArray } from '../postgres/arrays.ts'
import { integerSum } from '../postgres/counters.ts'
import type { Queryable } from '../postgres/database.ts'

/** Number of targets that are built at once, before the event loop runs other work. */
const TARGETS_AT_ONCE = 2_000

/** An event whose deliveries are all settled, and that has no receipt of this state. */
export interface Unreceipted {
  readonly event: SettledEvent
  /** Subject of an event that names only a `sid`, from the session index; null if the index did not have the session. */
  readonly session_sub: string | null
  /** The trace context that the event was planned under; null if it has none. */
  readonly traceparent: string | null
  readonly targets: readonly SettledTarget[]
  /** Number of its deliveries plus the number of their replays. It grows with every change. */
  readonly revision: number
  /** When the last delivery was settled. If there is none: when the issuer logout ended, or when the event was planned. */
  readonly settledAt: Date
  /** The issuer's promise, in milliseconds; null if the issuer is not registered, or the event is in the bulk lane. */
  readonly withinMs: number | null
  /** The log index of the event's latest receipt, which the new receipt replaces; null if the event has no receipt yet. */
  readonly replaces: number | null
}

/** The row of an event. */
interface EventRow extends SettledEvent, TargetColumns, Omit<Unreceipted, 'event' | 'targets'> {}

const EVENT_COLUMNS = `
  e.id, e.given_id as "givenId", e.iss, e.sub, e.session_sub, e.sid, e.device, e.scope, e.traceparent, e.reason, e.initiator, e.clients, e.occurred_at as "occurredAt",
  e.accepted_at as "acceptedAt", e.planned_at as "plannedAt", e.plan_basis as "planBasis",
  case e.lane when 'interactive' then i.sla_within_ms end as "withinMs"`

// The ids of an event's deliveries are adjacent, so each range is read at once. The revision grows with every change: a replay
// raises the generation of a settled delivery, and a session that is posted late adds a delivery. Receipts have times to the
// millisecond, as JavaScript reads them. An issuer logout is found again when it has ended. `offset 0` keeps this an index scan
// for each event: without it, the planner reads large tables as a whole.
const UNRECEIPTED_EVENTS = `
  with settled as (
    select d.event_id, given.low, given.high, d.revision, d.settled_at
      from unnest($1::uuid[], $2::uuid[]) as given(low, high)
     cross join lateral (
       select w.event_id, ${integerSum('count(*) + sum(w.generation)')} as revision, max(w.settled_at) as settled_at
         from deliveries w where w.id between given.low and given.high
        group by w.event_id
       having bool_and(w.settled_at is not null)
     ) d
    union all
    select e.id, given.low, given.high, 0, coalesce(l.ended_at, e.planned_at)
      from unnest($3::uuid[], $4::uuid[], $5::uuid[]) as given(id, low, high)
      join events e on e.id = given.id
      left join issuer_logouts l on l.event_id = e.id
     where (l.state is null or l.state <> 'running')
       and not exists (
         select from deliveries d where d.id between given.low and given.high and d.event_id = e.id offset 0)
  ),
  given as (
    select ${EVENT_COLUMNS}, settled.low, settled.high, settled.revision, settled.settled_at as "settledAt",
           latest.log_index as replaces
      from settled
      join events e on e.id = settled.event_id
      left join issuers i on i.iss = e.iss
      left join lateral (
        select r.revision, r.log_index from receipts r
         where r.event_id = e.id and r.planned_at = date_trunc('milliseconds', e.planned_at)
         order by r.revision desc limit 1
      ) latest on true
     where latest.revision is null or latest.revision < settled.revision
  )
  select given.*, owed.*
    from given cross join lateral (${SETTLED_TARGETS} offset 0) owed
   order by "settledAt", id`

/**
 * Finds the events that journal entries settled completely: those whose last delivery is in an entry, and those that owe no
 * delivery. Runs two statements for any number of events.
 */
export async function findUnreceipted(
  transaction: Queryable,
  entries: readonly JournalEntry[],
): Promise<readonly Unreceipted[]> {
  const ranges = new Map<string, string>()
  // An issuer logout comes twice: when it is planned, and when it has ended. One batch may have both.
  const maybeOwingNothing = new Set<string>()
  for (const entry of entries) {
    if (entry.kind === 'planned') {
      const owing = new Set(entry.owed.map(({ id }) => deliveryIdRange(id)[0]))
      const sharing = new Map<string, number>()
      for (const id of entry.eventIds) {
        const [low] = deliveryIdRange(id)
        sharing.set(low, (sharing.get(low) ?? 0) + 1)
      }
      // If ids of several events begin alike, the delivery may belong to another event. The statement checks.
      const mayOweNothing = (low: string) => !owing.has(low) || sharing.get(low) !== 1
      for (const id of entry.eventIds) if (mayOweNothing(deliveryIdRange(id)[0])) maybeOwingNothing.add(id)
    } else {
      for (const { id } of entry.settled) {
        // A delivery's id begins like its event's id, so both have the same range.
        ranges.set(...deliveryIdRange(id))
      }
    }
  }
  const owingNothing = [...maybeOwingNothing]
  if (ranges.size === 0 && owingNothing.length === 0) return []
  const { rows } = await transaction.query<EventRow>({
    name: 'unreceipted_events',
    text: UNRECEIPTED_EVENTS,
    values: [plainArray([...ranges.keys()]), plainArray([...ranges.values()]), ...eventRanges(owingNothing)],
  })
  const bindings = await readBindingFacts(transaction, bindingsOf(rows))
  const found: Unreceipted[] = []
  let targets = 0
  for (const row of rows) {
    const one = toUnreceipted(row, bindings)
    found.push(one)
    targets += one.targets.length
    if (targets < TARGETS_AT_ONCE) continue
    targets = 0
    await setImmediate()
  }
  return found
}

function toUnreceipted(row: EventRow, bindings: ReadonlyMap<BindingId, BindingFacts>): Unreceipted {
  const { session_sub, traceparent, revision, settledAt, withinMs, replaces } = row
  return {
    event: row,
    session_sub,
    traceparent,
    targets: toTargets(row, bindings),
    revision,
    settledAt,
    withinMs,
    replaces,
  }
}

/** The present state of an event and its deliveries, to compare its receipts with. */
export interface EventToday extends Unreceipted {
  /** Revision of its latest receipt; null if no receipt is left. */
  readonly latestRevision: number | null
  /** Whether one of its deliveries is unsettled, or was until a minute ago: another receipt will follow. */
  readonly changing: boolean
  /** Whether its subject was erased. */
  readonly erased: boolean
  /** Whether attempts that are still kept contradict their deliveries. */
  readonly attemptsDiffer: boolean
}

// A minute is longer than the bookkeeper needs for a receipt, and than clocks may differ by. No attempt is `first_sent` if
// retention has deleted the earlier ones: the first that was sent may be among them.
const EVENTS_TODAY = `
  select ${EVENT_COLUMNS}, coalesce(d.revision, 0) as revision, coalesce(d.settled_at, l.ended_at, e.planned_at) as "settledAt",
         null as replaces, e.erased_at is not null as erased, coalesce(d.changing, l.state = 'running' or l.ended_at > now() - interval '1 minute', false) as changing,
         (select max(r.revision) from receipts r
           where r.event_id = e.id and r.planned_at = date_trunc('milliseconds', e.planned_at) and r.log_index < $4) as "latestRevision",
         exists (
           select from deliveries d
            cross join lateral (
              select number, started_at, outcome, status,
                     sent and sum(sent::int) over so_far = 1 and row_number() over so_far = number as first_sent
                from (select *, jti is not null and outcome <> 'undeliverable' as sent
                        from attempts where delivery_id = d.id offset 0) made
              window so_far as (order by number)) a
            where d.id between given.low and given.high and d.event_id = given.id
              and (a.first_sent and a.started_at is distinct from d.first_attempt_at
                   or a.number = d.attempts and (a.status, a.outcome = 'acknowledged') is distinct from (d.status, d.state = 'acknowledged'))
         ) as "attemptsDiffer",
         owed.*
    from unnest($1::uuid[], $2::uuid[], $3::uuid[]) as given(id, low, high)
    join events e on e.id = given.id
    left join issuers i on i.iss = e.iss
    left join issuer_logouts l on l.event_id = e.id
    cross join lateral (
      select ${integerSum('count(*) + sum(d.generation)')} as revision, max(d.settled_at) as settled_at,
             bool_or(d.settled_at is null or d.settled_at > now() - interval '1 minute' and d.settled_at < now() + interval '1 minute') as changing
        from deliveries d where d.id between given.low and given.high and d.event_id = given.id
    ) d
    cross join lateral (${SETTLED_TARGETS} offset 0) owed`

/**
 * Reads the present state of events and their settled deliveries. Events that the ledger has deleted are absent.
 *
 * @param size the size of the receipt log: receipts beyond it are ignored.
 */
export async function findToday(
  db: Queryable,
  { eventIds, size }: { eventIds: readonly string[]; size: number },
): Promise<readonly EventToday[]> {
  if (eventIds.length === 0) return []
  const { rows } = await db.query<
    EventRow & Pick<EventToday, 'changing' | 'erased' | 'attemptsDiffer' | 'latestRevision'>
  >({
    text: EVENTS_TODAY,
    values: [...eventRanges(eventIds), size],
  })
  const bindings = await readBindingFacts(db, bindingsOf(rows))
  return rows.map((row) => ({
    ...toUnreceipted(row, bindings),
    changing: row.changing,
    erased: row.erased,
    attemptsDiffer: row.attemptsDiffer,
    latestRevision: row.latestRevision,
  }))
}
