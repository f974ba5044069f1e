import { type BindingId, deliveryIdRange, type SettledEvent, type SettledTarget } from '@curfew/domain'
import { plainArray } from './arrays.ts'
import type { Queryable } from './database.ts'
import type { JournalEntry } from './journal.ts'
import { WITHIN_MS } from './sla.ts'

/** An event all of whose deliveries are settled, and of which there is no receipt that says so. */
export interface Unreceipted {
  readonly event: SettledEvent
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

interface EventRow extends SettledEvent {
  readonly revision: number
  readonly settledAt: Date
  readonly withinMs: number | null
  readonly replaces: number | null
}

const EVENT_COLUMNS = `
  e.id, e.iss, e.sub, e.sid, e.device, e.scope, e.reason, e.initiator, e.clients, e.occurred_at as "occurredAt",
  e.accepted_at as "acceptedAt", e.planned_at as "plannedAt", e.plan_basis as "planBasis",
  case e.lane when 'interactive' then i.sla_within_ms end as "withinMs"`

// All deliveries of an event lie side by side, so what is in one range is read at once. What is settled changes by a replay
// alone, which raises its generation; and a session that was posted late is owed a delivery more. Receipts are dated as we
// read the time, to the millisecond. A logout of everyone is found again when it has ended.
const UNRECEIPTED_EVENTS = `
  with settled as (
    select d.event_id, d.revision, d.settled_at
      from unnest($1::uuid[], $2::uuid[]) as given(low, high)
     cross join lateral (
       select w.event_id, (count(*) + sum(w.generation))::int as revision, max(w.settled_at) as settled_at
         from deliveries w where w.id between given.low and given.high
        group by w.event_id
       having bool_and(w.settled_at is not null)
     ) d
    union all
    select e.id, 0, coalesce(l.ended_at, e.planned_at)
      from unnest($3::uuid[], $4::uuid[], $5::uuid[]) as given(id, low, high)
      join events e on e.id = given.id
      left join issuer_logouts l on l.event_id = e.id
     where (l.state is null or l.state <> 'running')
       and not exists (select from deliveries d where d.id between given.low and given.high and d.event_id = e.id)
  )
  select ${EVENT_COLUMNS}, settled.revision, settled.settled_at as "settledAt", latest.log_index as replaces
    from settled
    join events e on e.id = settled.event_id
    left join issuers i on i.iss = e.iss
    left join lateral (
      select r.revision, r.log_index from receipts r
       where r.event_id = e.id and r.planned_at = date_trunc('milliseconds', e.planned_at)
       order by r.revision desc limit 1
    ) latest on true
   where latest.revision is null or latest.revision < settled.revision
   order by settled.settled_at, e.id`

interface TargetRow
  extends Omit<SettledTarget, 'clientId' | 'endpoint' | 'firstAttemptAt' | 'settledAt' | 'withinMs'> {
  readonly id: string
  readonly eventId: string
  readonly bindingId: BindingId
  /** Since 1970: so many times are read several times as fast so. */
  readonly settledMs: number
  readonly startedMs: number | null
}

// One row for each attempt. They were made between planning and settling, give or take the clocks of the workers, so that
// no more of their partitions are looked into than those days. `offset 0` keeps it a walk through the index for each event and
// each delivery: joined freely, large tables are read as a whole.
const TARGETS = `
  select d.id, d.event_id as "eventId", d.binding_id as "bindingId", d.sid, d.state, d.level,
         d.dead_letter_reason as reason, d.attempts, d.generation,
         floor(extract(epoch from d.settled_at) * 1000)::bigint as "settledMs",
         floor(extract(epoch from a.started_at) * 1000)::bigint as "startedMs", a.status, encode(a.token_digest, 'base64') as "tokenDigest"
    from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[]) as given(id, low, high, planned_at)
   cross join lateral (
     select w.* from deliveries w
      where w.id between given.low and given.high and w.event_id = given.id and w.settled_at is not null
     offset 0
   ) d
    left join lateral (
     select w.number, w.started_at, w.status, w.token_digest from attempts w
      where w.delivery_id = d.id and w.started_at >= given.planned_at - interval '1 hour'
        and w.started_at <= d.settled_at + interval '1 hour'
     offset 0
   ) a on true
   order by d.id, a.number`

type BindingRow = Pick<SettledTarget, 'clientId' | 'endpoint' | 'withinMs'> & { readonly id: BindingId }

const BINDINGS = `
  select b.id, b.endpoint, p.client_id as "clientId",
         ${WITHIN_MS} as "withinMs"
    from bindings b join relying_parties p on p.id = b.relying_party_id join issuers i on i.name = p.issuer
   where b.id = any($1::bigint[])`

/**
 * The events that entries of the journal settled wholly: those whose last delivery is among them, and those that owe
 * nothing. A few statements, however many events.
 */
export async function findUnreceipted(
  transaction: Queryable,
  entries: readonly JournalEntry[],
): Promise<readonly Unreceipted[]> {
  const ranges = new Map<string, readonly [low: string, high: string]>()
  // A logout of everyone comes twice, and both may be in one batch: when it is planned, and when it has ended.
  const perhapsNothing = new Set<string>()
  for (const entry of entries) {
    if (entry.kind === 'planned') {
      const owing = new Set(entry.deliveryIds.map((id) => deliveryIdRange(id)[0]))
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
        const range = deliveryIdRange(id)
        ranges.set(range[0], range)
      }
    }
  }
  const owingNothing = [...perhapsNothing]
  if (ranges.size === 0 && owingNothing.length === 0) return []
  const { rows } = await transaction.query<EventRow>({
    name: 'unreceipted_events',
    text: UNRECEIPTED_EVENTS,
    values: [
      ...rangesOf([...ranges.values()]),
      plainArray(owingNothing),
      ...rangesOf(owingNothing.map(deliveryIdRange)),
    ],
  })
  if (rows.length === 0) return []
  const targets = await readTargets(transaction, rows)
  return rows.flatMap((event) => {
    const own = targets.get(event.id) ?? []
    // What was put back since the events were read will be settled anew, and its event be found then.
    return revisionOf(own) === event.revision ? [withTargets(event, own)] : []
  })
}

/** The settled deliveries of events, by event. */
async function readTargets(
  db: Queryable,
  events: readonly EventRow[],
): Promise<ReadonlyMap<string, readonly SettledTarget[]>> {
  const targets = new Map<string, SettledTarget[]>(events.map(({ id }) => [id, []]))
  const ids = [...targets.keys()]
  const { rows } = await db.query<TargetRow>({
    name: 'receipt_targets',
    text: TARGETS,
    values: [
      plainArray(ids),
      ...rangesOf(ids.map(deliveryIdRange)),
      plainArray(events.map(({ plannedAt }) => plannedAt)),
    ],
  })
  const bindings = await db.query<BindingRow>({
    name: 'receipt_bindings',
    text: BINDINGS,
    values: [plainArray([...new Set(rows.map(({ bindingId }) => bindingId))])],
  })
  const names = new Map(bindings.rows.map(({ id, ...facts }) => [id, facts]))
  // The rows of a delivery follow one another.
  for (let [at, next] = [0, 0]; at < rows.length; at = next) {
    next = at + 1
    while (next < rows.length && rows[next]?.id === rows[at]?.id) next += 1
    const [first, last] = [rows[at], rows[next - 1]]
    if (first === undefined || last === undefined) continue
    const { state, level, reason, attempts, generation, sid, settledMs, status, tokenDigest } = last
    const { clientId, endpoint, withinMs } = names.get(first.bindingId) ?? UNKNOWN_BINDING
    targets.get(first.eventId)?.push({
      clientId,
      endpoint,
      withinMs,
      sid,
      state,
      level,
      reason,
      attempts,
      generation,
      settledAt: new Date(settledMs),
      // Of what was retried for long, the first attempts may be forgotten before the last.
      firstAttemptAt: next - at < attempts || first.startedMs === null ? null : new Date(first.startedMs),
      status,
      tokenDigest: tokenDigest === null ? null : base64url(tokenDigest),
    })
  }
  return targets
}

function revisionOf(targets: readonly SettledTarget[]): number {
  return targets.reduce((sum, { generation }) => sum + generation, targets.length)
}

function withTargets(
  { revision, settledAt, withinMs, replaces, ...event }: EventRow,
  targets: readonly SettledTarget[],
): Unreceipted {
  return { event, targets, revision, settledAt, withinMs, replaces }
}

function rangesOf(ranges: readonly (readonly [low: string, high: string])[]): readonly string[] {
  return [plainArray(ranges.map(([low]) => low)), plainArray(ranges.map(([, high]) => high))]
}

/** A row of a binding stays as long as deliveries name it. */
const UNKNOWN_BINDING = { clientId: '', endpoint: '', withinMs: 0 } as const

function base64url(base64: string): string {
  return base64.replace(/=+$/, '').replaceAll('+', '-').replaceAll('/', '_')
}

/** An event and its deliveries as they are today, to hold its receipts against. */
export interface EventToday extends Unreceipted {
  /** Of its latest receipt; null where there is none any more. */
  readonly latestRevision: number | null
  /** Whether something of it is under way again, or was until a moment ago: another receipt will say so. */
  readonly changing: boolean
  /** Whether its subject was forgotten. */
  readonly erased: boolean
}

// A minute is more than the bookkeeper needs for a receipt, and more than clocks may differ by.
const EVENTS_TODAY = `
  select ${EVENT_COLUMNS}, coalesce(d.revision, 0) as revision, coalesce(d.settled_at, l.ended_at, e.planned_at) as "settledAt",
         null as replaces, e.erased_at is not null as erased, coalesce(d.changing, l.state = 'running' or l.ended_at > now() - interval '1 minute', false) as changing,
         (select max(r.revision) from receipts r
           where r.event_id = e.id and r.planned_at = date_trunc('milliseconds', e.planned_at) and r.log_index < $4) as "latestRevision"
    from unnest($1::uuid[], $2::uuid[], $3::uuid[]) as given(id, low, high)
    join events e on e.id = given.id
    left join issuers i on i.iss = e.iss
    left join issuer_logouts l on l.event_id = e.id
    cross join lateral (
      select (count(*) + sum(d.generation))::int as revision, max(d.settled_at) as settled_at,
             bool_or(d.settled_at is null or abs(extract(epoch from now() - d.settled_at)) < 60) as changing
        from deliveries d where d.id between given.low and given.high and d.event_id = given.id
    ) d`

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
  const { rows } = await db.query<EventRow & Pick<EventToday, 'changing' | 'erased' | 'latestRevision'>>({
    text: EVENTS_TODAY,
    values: [plainArray(eventIds), ...rangesOf(eventIds.map(deliveryIdRange)), size],
  })
  const targets = await readTargets(db, rows)
  return rows.map(({ changing, erased, latestRevision, ...event }) => ({
    ...withTargets(event, targets.get(event.id) ?? []),
    changing,
    erased,
    latestRevision,
  }))
}
