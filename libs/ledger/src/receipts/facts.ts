import { setImmediate } from 'node:timers/promises'
import { type BindingId, deliveryIdRange, type SettledEvent, type SettledTarget } from '@curfew/domain'
import { type BindingFacts, readBindingFacts } from '../delivery/binding-facts.ts'
import { eventRanges } from '../history/event-ranges.ts'
import type { JournalEntry } from '../history/journal.ts'
import { bindingsOf, SETTLED_TARGETS, type TargetColumns, toTargets } from '../history/settled-targets.ts'
import { plainArray } from '../postgres/arrays.ts'
import { integerSum } from '../postgres/counters.ts'
import type { Queryable } from '../postgres/database.ts'

/** Targets that are made before all else that waits for the processor gets its turn. */
const TARGETS_IN_A_BREATH = 2_000

/** An event all of whose deliveries are settled, and of which there is no receipt that says so. */
export interface Unreceipted {
  readonly event: SettledEvent
  /** Whose session it is, where it names nobody, as far as the session index knew. */
  readonly session_sub: string | null
  readonly targets: readonly SettledTarget[]
  /** Its deliveries, and how often they were replayed: it only grows, and says the same only of what is the same. */
  readonly revision: number
  /** When the last of them was settled; of an event that owes nothing, when it was planned, or its logout of everyone ended. */
  readonly settledAt: Date
  /** What its issuer promises; null where it promises nothing: it is not registered, or the event is of the bulk lane. */
  readonly withinMs: number | null
  /** Place of its latest receipt, which is of an earlier revision. */
  readonly replaces: number | null
}

/** An event, as its row has it. */
interface EventRow extends SettledEvent, TargetColumns, Omit<Unreceipted, 'event' | 'targets'> {}

const EVENT_COLUMNS = `
  e.id, e.given_id as "givenId", e.iss, e.sub, e.session_sub, e.sid, e.device, e.scope, e.reason, e.initiator, e.clients, e.occurred_at as "occurredAt",
  e.accepted_at as "acceptedAt", e.planned_at as "plannedAt", e.plan_basis as "planBasis",
  case e.lane when 'interactive' then i.sla_within_ms end as "withinMs"`

// All deliveries of an event lie side by side, so what is in one range is read at once. What is settled changes by a replay
// alone, which raises its generation; and a session that was posted late is owed a delivery more. Receipts are dated as we
// read the time, to the millisecond. A logout of everyone is found again when it has ended. `offset 0` keeps it a walk through
// the index for each event: joined freely, large tables are read as a whole.
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
 * The events that entries of the journal settled wholly: those whose last delivery is among them, and those that owe
 * nothing. Two statements, however many events.
 */
export async function findUnreceipted(
  transaction: Queryable,
  entries: readonly JournalEntry[],
): Promise<readonly Unreceipted[]> {
  const ranges = new Map<string, string>()
  // A logout of everyone comes twice, and both may be in one batch: when it is planned, and when it has ended.
  const perhapsNothing = new Set<string>()
  for (const entry of entries) {
    if (entry.kind === 'planned') {
      const owing = new Set(entry.owed.map(({ id }) => deliveryIdRange(id)[0]))
      const sharing = new Map<string, number>()
      for (const id of entry.eventIds) {
        const [low] = deliveryIdRange(id)
        sharing.set(low, (sharing.get(low) ?? 0) + 1)
      }
      // Where ids of events begin alike, the delivery may be another's: the statement looks.
      const perhaps = (low: string) => !owing.has(low) || sharing.get(low) !== 1
      for (const id of entry.eventIds) if (perhaps(deliveryIdRange(id)[0])) perhapsNothing.add(id)
    } else {
      for (const { id } of entry.settled) {
        // A delivery's id begins as its event's does, so they have the same range.
        ranges.set(...deliveryIdRange(id))
      }
    }
  }
  const owingNothing = [...perhapsNothing]
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
    if (targets < TARGETS_IN_A_BREATH) continue
    targets = 0
    await setImmediate()
  }
  return found
}

function toUnreceipted(row: EventRow, bindings: ReadonlyMap<BindingId, BindingFacts>): Unreceipted {
  const { session_sub, revision, settledAt, withinMs, replaces } = row
  return {
    event: row,
    session_sub,
    targets: toTargets(row, bindings),
    revision,
    settledAt,
    withinMs,
    replaces,
  }
}

/** An event and its deliveries as they are today, to hold its receipts against. */
export interface EventToday extends Unreceipted {
  /** Of its latest receipt; null where there is none any more. */
  readonly latestRevision: number | null
  /** Whether something of it is under way again, or was until a moment ago: another receipt will say so. */
  readonly changing: boolean
  /** Whether its subject was forgotten. */
  readonly erased: boolean
  /** Whether attempts of it, as far as they are kept, say otherwise than their deliveries. */
  readonly attemptsDiffer: boolean
}

// A minute is more than the bookkeeper needs for a receipt, and more than clocks may differ by.
const EVENTS_TODAY = `
  select ${EVENT_COLUMNS}, coalesce(d.revision, 0) as revision, coalesce(d.settled_at, l.ended_at, e.planned_at) as "settledAt",
         null as replaces, e.erased_at is not null as erased, coalesce(d.changing, l.state = 'running' or l.ended_at > now() - interval '1 minute', false) as changing,
         (select max(r.revision) from receipts r
           where r.event_id = e.id and r.planned_at = date_trunc('milliseconds', e.planned_at) and r.log_index < $4) as "latestRevision",
         exists (
           select from deliveries d
            cross join lateral (select number, started_at, outcome, status from attempts where delivery_id = d.id offset 0) a
            where d.id between given.low and given.high and d.event_id = given.id
              and (a.number = 1 and a.started_at <> d.first_attempt_at
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
 * What the ledger has today of events, as far as it has them still, and of their settled deliveries.
 *
 * @param size of the log: what lies beyond is no receipt.
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
