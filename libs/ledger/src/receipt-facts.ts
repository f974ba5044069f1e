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

/** An event, as its row has it. */
interface EventRow extends SettledEvent, TargetColumns, Omit<Unreceipted, 'event' | 'targets'> {}

/** The settled deliveries of an event, each in its place of every list; all null where there are none. */
interface TargetColumns {
  readonly bindingIds: string | null
  readonly states: string
  readonly levels: string
  readonly reasons: string
  readonly attempts: string
  readonly generations: string
  readonly settledMs: string
  readonly firstAttemptMs: string
  readonly statuses: string
  readonly digests: string
  /** Null where none has any. */
  readonly sids: readonly (string | null)[] | null
}

const EVENT_COLUMNS = `
  e.id, e.iss, e.sub, e.sid, e.device, e.scope, e.reason, e.initiator, e.clients, e.occurred_at as "occurredAt",
  e.accepted_at as "acceptedAt", e.planned_at as "plannedAt", e.plan_basis as "planBasis",
  case e.lane when 'interactive' then i.sla_within_ms end as "withinMs"`

// One text for each column, with commas between: of tens of thousands a second, a row or an array for each delivery takes
// several times as long on both sides. None of these has a comma in it. What an identity provider calls a session may have:
// those are given as JSON. Half a microsecond is more than the error of the product, and less than what a time is kept to.
const list = (text: string) => `string_agg(coalesce(${text}, ''), ',')`
const milliseconds = (time: string) => `floor(date_part('epoch', ${time}) * 1000 + 0.0005)::bigint::text`
const SETTLED_TARGETS = `
  select ${list('w.binding_id::text')} as "bindingIds", ${list('w.state')} as states, ${list('w.level')} as levels,
         ${list('w.dead_letter_reason')} as reasons, ${list('w.attempts::text')} as attempts,
         ${list('w.generation::text')} as generations, ${list(milliseconds('w.settled_at'))} as "settledMs",
         ${list(milliseconds('w.first_attempt_at'))} as "firstAttemptMs", ${list('w.status::text')} as statuses,
         ${list("encode(w.token_digest, 'base64')")} as digests,
         case when bool_or(w.sid is not null) then json_agg(w.sid) end as sids
    from deliveries w
   where w.id between given.low and given.high and w.event_id = given.id and w.settled_at is not null`

// All deliveries of an event lie side by side, so what is in one range is read at once. What is settled changes by a replay
// alone, which raises its generation; and a session that was posted late is owed a delivery more. Receipts are dated as we
// read the time, to the millisecond. A logout of everyone is found again when it has ended. `offset 0` keeps it a walk through
// the index for each event: joined freely, large tables are read as a whole.
const UNRECEIPTED_EVENTS = `
  with settled as (
    select d.event_id, given.low, given.high, d.revision, d.settled_at
      from unnest($1::uuid[], $2::uuid[]) as given(low, high)
     cross join lateral (
       select w.event_id, (count(*) + sum(w.generation))::int as revision, max(w.settled_at) as settled_at
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

type BindingRow = Pick<SettledTarget, 'clientId' | 'endpoint' | 'withinMs'> & { readonly id: BindingId }

const BINDINGS = `
  select b.id, b.endpoint, p.client_id as "clientId",
         ${WITHIN_MS} as "withinMs"
    from bindings b join relying_parties p on p.id = b.relying_party_id join issuers i on i.name = p.issuer
   where b.id = any($1::bigint[])`

/**
 * The events that entries of the journal settled wholly: those whose last delivery is among them, and those that owe
 * nothing. Two statements, however many events.
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
  const bindings = await readBindings(transaction, rows)
  return rows.map((row) => toUnreceipted(row, bindings))
}

/** What deliveries went to, by the text of its id. */
async function readBindings(
  db: Queryable,
  rows: readonly TargetColumns[],
): Promise<ReadonlyMap<string, BindingRow>> {
  const ids = new Set(rows.flatMap(({ bindingIds }) => bindingIds?.split(',') ?? []))
  if (ids.size === 0) return new Map()
  const { rows: bindings } = await db.query<BindingRow>({
    name: 'receipt_bindings',
    text: BINDINGS,
    values: [plainArray([...ids])],
  })
  return new Map(bindings.map((binding) => [String(binding.id), binding]))
}

function toTargets(
  { bindingIds, sids, ...columns }: TargetColumns,
  bindings: ReadonlyMap<string, BindingRow>,
): readonly SettledTarget[] {
  if (bindingIds === null) return []
  const states = columns.states.split(',')
  const levels = columns.levels.split(',')
  const reasons = columns.reasons.split(',')
  const attempts = columns.attempts.split(',')
  const generations = columns.generations.split(',')
  const settledMs = columns.settledMs.split(',')
  const firstAttemptMs = columns.firstAttemptMs.split(',')
  const statuses = columns.statuses.split(',')
  const digests = columns.digests.split(',')
  return bindingIds.split(',').map((bindingId, at) => {
    const { clientId, endpoint, withinMs } = bindings.get(bindingId) ?? UNKNOWN_BINDING
    return {
      clientId,
      endpoint,
      withinMs,
      sid: sids?.[at] ?? null,
      state: states[at] as SettledTarget['state'],
      level: levels[at] || null,
      reason: reasons[at] || null,
      attempts: Number(attempts[at]),
      generation: Number(generations[at]),
      settledMs: Number(settledMs[at]),
      firstAttemptMs: firstAttemptMs[at] ? Number(firstAttemptMs[at]) : null,
      status: statuses[at] ? Number(statuses[at]) : null,
      tokenDigest: digests[at] ? base64url(digests[at]) : null,
    }
  })
}

function toUnreceipted(row: EventRow, bindings: ReadonlyMap<string, BindingRow>): Unreceipted {
  const {
    id,
    iss,
    sub,
    sid,
    device,
    scope,
    reason,
    initiator,
    clients,
    occurredAt,
    acceptedAt,
    plannedAt,
    planBasis,
  } = row
  return {
    event: {
      id,
      iss,
      sub,
      sid,
      device,
      scope,
      reason,
      initiator,
      clients,
      occurredAt,
      acceptedAt,
      plannedAt,
      planBasis,
    },
    targets: toTargets(row, bindings),
    revision: row.revision,
    settledAt: row.settledAt,
    withinMs: row.withinMs,
    replaces: row.replaces,
  }
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
      select (count(*) + sum(d.generation))::int as revision, max(d.settled_at) as settled_at,
             bool_or(d.settled_at is null or abs(extract(epoch from now() - d.settled_at)) < 60) as changing
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
    values: [plainArray(eventIds), ...rangesOf(eventIds.map(deliveryIdRange)), size],
  })
  const bindings = await readBindings(db, rows)
  return rows.map((row) => ({
    ...toUnreceipted(row, bindings),
    changing: row.changing,
    erased: row.erased,
    attemptsDiffer: row.attemptsDiffer,
    latestRevision: row.latestRevision,
  }))
}
