import {
  type AttemptError,
  type DeadLetterRecord,
  type DeliveryProgress,
  type DeliveryRecord,
  deliveryIdRange,
  type EventRecord,
  type IssuerLogoutProgress,
  type StoredAttempt,
} from '@curfew/domain'
import { subjectNamed } from '../delivery/event-subjects.ts'
import { plainArray } from '../postgres/arrays.ts'
import type { Database } from '../postgres/database.ts'
import { namedParameters } from '../postgres/parameters.ts'
import { clampedTime } from '../postgres/times.ts'
import {
  filteredBindings,
  WALK_PARAMETERS,
  type WalkedPage,
  walk,
  walkParts,
  walkSql,
} from '../postgres/walk.ts'
import { eventRanges } from './event-ranges.ts'

// `names` must agree with `logoutTokenClaims`: the subject, if no session is known or the RP takes only the subject.
const deliverySql = (more = '') => `
  select d.id, d.event_id as "eventId", e.given_id as "givenEventId", d.binding_id as "bindingId", p.issuer, p.client_id as "clientId",
         p.client_name as "clientName", b.kind as channel, b.step, b.fallback_for as "fallbackFor", b.counts, b.endpoint,
         d.sid, d.sub, d.lane, d.state, d.level, coalesce(string_to_array(d.evidence, ' '), '{}') as evidence,
         case when e.scope = 'issuer' then 'issuer'
              when d.erased_at is not null then case e.scope when 'subject' then 'subject' else 'session' end
              when d.sid is null or b.names = 'subject' and ${subjectNamed()} is not null then 'subject' else 'session' end as names,
         d.attempts - d.unsent as "attemptCount", d.dead_letter_reason as "deadLetterReason",
         d.superseded_by as "supersededBy", d.generation, d.planned_at as "plannedAt",
         d.due_at as "dueAt", d.settled_at as "settledAt", d.session_ends_at as "sessionEndsAt", e.accepted_at as "acceptedAt",
         d.erased_at as "erasedAt"${more}
    from deliveries d
    join events e on e.id = d.event_id
    join bindings b on b.id = d.binding_id
    join relying_parties p on p.id = b.relying_party_id`
const DELIVERY = deliverySql()

/** SQL: whether a relying party `p` was registered when an event `e` was planned. */
export const HAD_PARTY =
  'p.created_at <= e.planned_at and (p.deleted_at is null or p.deleted_at > e.planned_at)'

const FIND_EVENTS = `
  select e.id, e.given_id as "givenId", e.iss, i.name as issuer, e.sub, e.email, e.sid, e.scope, e.device, e.reason, e.initiator, e.lane,
         e.include_initiator as "includeInitiator", e.clients,
         case when e.clients is null then '{}' else array(
           select c from unnest(e.clients) as c
            where not exists (
              select from relying_parties p where p.issuer = i.name and p.client_id = c and ${HAD_PARTY})) end as "unregisteredClients",
         e.occurred_at as "occurredAt", e.accepted_at as "acceptedAt", e.planned_at as "plannedAt", e.plan_basis as "planBasis", i.strategy,
         e.relayed_for as "relayedFor",
         e.erased_at as "erasedAt", owed.count as "owed", (select p.given_id from events p where p.id = e.parent_id) as "givenParentId", l.state, l.ended_at as "endedAt",
         l.total, l.planned as done
    from unnest($1::uuid[], $2::uuid[], $3::uuid[]) with ordinality as asked(id, low, high, place)
    join events e on e.id = asked.id
   cross join lateral (
     select count(*)::int as count from deliveries d
      where d.id between asked.low and asked.high and d.event_id = e.id
   ) owed
    left join issuer_logouts l on l.event_id = e.id
    left join issuers i on i.iss = e.iss
   order by asked.place`

// `offset 0` keeps this an index scan for each event: without it, the planner reads large tables as a whole.
const DELIVERIES_OF_EVENTS = `${DELIVERY}
   where d.id = any(array(
     select owed.id
       from unnest($1::uuid[], $2::uuid[], $3::uuid[]) as asked(id, low, high)
      cross join lateral (
        select w.id from deliveries w
         where w.id between asked.low and asked.high and w.event_id = asked.id offset 0
      ) owed))
   order by p.client_id, b.kind, b.endpoint, d.sid`

type DeliveryRow = Omit<DeliveryRecord, 'lastError'>

// The number identifies the last attempt. Its time is a condition as well, so that only partitions that may have it are read.
const LAST_ERRORS = `
  select d.id, a.started_at as "startedAt", a.status, a.error_class as "errorClass", a.error,
         a.error_description as "errorDescription"
    from unnest($1::uuid[]) as g(id)
    join deliveries d on d.id = g.id
    cross join lateral (
      select * from attempts
       where delivery_id = d.id and number = d.attempts
         and started_at between ${clampedTime('d.planned_at')} - interval '1 day' and now() + interval '1 day'
       limit 1
    ) a
   where a.outcome <> 'acknowledged'`

/** Adds the errors of the last attempts. An acknowledged delivery has none. */
async function withLastErrors(
  db: Database,
  deliveries: readonly DeliveryRow[],
): Promise<readonly DeliveryRecord[]> {
  const failing = deliveries.filter(({ state }) => state !== 'acknowledged').map(({ id }) => id)
  const { rows } =
    failing.length === 0
      ? { rows: [] }
      : await db.query<AttemptError & { readonly id: string }>({
          name: 'last_errors',
          text: LAST_ERRORS,
          values: [plainArray(failing)],
        })
  const errors = new Map(rows.map(({ id, ...error }) => [id, error]))
  return deliveries.map((delivery) => ({ ...delivery, lastError: errors.get(delivery.id) ?? null }))
}

interface EventRow extends Omit<EventRecord, 'issuerLogout'> {
  /** Number of its deliveries. */
  readonly owed: number
  /** State of an issuer logout; null for any other event. */
  readonly state: IssuerLogoutProgress['state'] | null
  readonly endedAt: Date | null
  readonly total: number | null
  readonly done: number
}

/** An event with its deliveries. */
export interface FoundEvent {
  readonly event: EventRecord
  readonly deliveries: readonly DeliveryRecord[]
}

/**
 * Finds events with their deliveries by id, in two statements. Returns events in the order of `ids` until they have
 * `deliveriesMax` deliveries together, but at least one event. Each of the others is `later`: ask again.
 *
 * @returns null for an event that is not planned (yet).
 */
export async function findEvents(
  db: Database,
  { ids, deliveriesMax }: { ids: readonly string[]; deliveriesMax: number },
): Promise<ReadonlyMap<string, FoundEvent | 'later' | null>> {
  const found = new Map<string, FoundEvent | 'later' | null>(ids.map((id) => [id, null]))
  const { rows } = await db.query<EventRow>({
    name: 'find_events',
    text: FIND_EVENTS,
    values: eventRanges([...found.keys()]),
  })
  let total = 0
  const whole = rows.filter(({ owed }, place) => {
    total += owed
    return place === 0 || total <= deliveriesMax
  })
  for (const { id } of rows) found.set(id, 'later')
  if (whole.length === 0) return found
  const deliveries = await db.query<DeliveryRow>({
    name: 'deliveries_of_events',
    text: DELIVERIES_OF_EVENTS,
    values: eventRanges(whole.map(({ id }) => id)),
  })
  const byEvent = Map.groupBy(await withLastErrors(db, deliveries.rows), ({ eventId }) => eventId)
  for (const row of whole) found.set(row.id, { event: toEvent(row), deliveries: byEvent.get(row.id) ?? [] })
  return found
}

function toEvent({ owed: _, state, endedAt, total, done, ...event }: EventRow): EventRecord {
  return { ...event, issuerLogout: state === null ? null : { state, endedAt, total, done } }
}

// `offset 0`: see DELIVERIES_OF_EVENTS.
const SETTLED_EVENTS = `
  select e.id
    from unnest($1::uuid[], $2::uuid[], $3::uuid[]) as asked(id, low, high)
    join events e on e.id = asked.id
   where not exists (
     select from deliveries d
      where d.id between asked.low and asked.high and d.event_id = e.id and d.settled_at is null offset 0)
     and not exists (select from issuer_logouts l where l.event_id = e.id and l.state = 'running')`

/** Finds the events that are planned and have all their deliveries settled. One statement serves all waiting callers. */
export async function settledEvents(db: Database, ids: readonly string[]): Promise<ReadonlySet<string>> {
  const { rows } = await db.query<{ id: string }>({
    name: 'settled_events',
    text: SETTLED_EVENTS,
    values: eventRanges(ids),
  })
  return new Set(rows.map(({ id }) => id))
}

// A superseding delivery may itself be superseded. `union` drops repeated rows, so a cycle ends.
const COVERING_DELIVERIES = `
  with recursive chain(id, by) as (
    select d.id, d.superseded_by from deliveries d where d.id = any($1::uuid[]) and d.state = 'superseded'
     union
    select chain.id, d.superseded_by from chain join deliveries d on d.id = chain.by and d.state = 'superseded'
  )
  select chain.id as "coveredId", d.state, d.due_at as "dueAt", d.attempts - d.unsent as "attemptCount", d.level,
         d.session_ends_at as "sessionEndsAt", d.settled_at as "settledAt"
    from chain join deliveries d on d.id = chain.by
   where d.state <> 'superseded'`

/** The progress of a delivery that supersedes others. */
export interface CoveringDelivery extends DeliveryProgress {
  readonly settledAt: Date | null
}

/** For each superseded delivery among `ids`, the progress of the delivery that supersedes it in the end. */
export async function coveringDeliveries(
  db: Database,
  ids: readonly string[],
): Promise<ReadonlyMap<string, CoveringDelivery>> {
  const { rows } = await db.query<CoveringDelivery & { readonly coveredId: string }>({
    name: 'covering_deliveries',
    text: COVERING_DELIVERIES,
    values: [plainArray(ids)],
  })
  return new Map(rows.map(({ coveredId, ...progress }) => [coveredId, progress]))
}

const FIND_DELIVERY = `${deliverySql(', b.uri, b.settings')} where d.id = $1`

const ATTEMPTS_OF_DELIVERY = `
  select number, started_at as "startedAt", duration_ms as "durationMs", outcome, status,
         error_class as "errorClass", error, error_description as "errorDescription", location, jti, note
    from attempts where delivery_id = $1 order by number`

/** A delivery with all its attempts. */
export interface FoundDelivery {
  readonly delivery: DeliveryRecord
  /** In their order. */
  readonly attempts: readonly StoredAttempt[]
  /** The registered address and settings of its endpoint. */
  readonly endpoint: Pick<DeadLetterRecord, 'uri' | 'settings'>
}

/** Finds a delivery with all its attempts. */
export async function findDelivery(db: Database, id: string): Promise<FoundDelivery | null> {
  const { rows } = await db.query<DeliveryRow & FoundDelivery['endpoint']>({
    name: 'find_delivery',
    text: FIND_DELIVERY,
    values: [id],
  })
  const [row] = rows
  if (row === undefined) return null
  const { uri, settings, ...found } = row
  const [delivery] = await withLastErrors(db, [found])
  if (delivery === undefined) return null
  const attempts = await db.query<StoredAttempt>({
    name: 'attempts_of_delivery',
    text: ATTEMPTS_OF_DELIVERY,
    values: [id],
  })
  return { delivery, attempts: attempts.rows, endpoint: { uri, settings } }
}

const ASKED = namedParameters(
  {
    low: 'uuid',
    high: 'uuid',
    before: 'uuid',
    eventId: 'uuid',
    state: 'text',
    since: 'timestamptz',
    until: 'timestamptz',
  },
  { after: WALK_PARAMETERS },
)
const { $ } = ASKED

const listOf = (byParts: boolean) => ({
  name: byParts ? 'list_deliveries_of_bindings' : 'list_deliveries',
  text: walkSql({
    table: 'deliveries',
    key: ['id'],
    order: 'desc',
    byParts,
    where: `t.id between ${$.low} and ${$.high} and t.id < ${$.before}${byParts ? ' and t.binding_id = part.id' : ''}`,
    columns: ['binding_id', 'event_id', 'state', 'planned_at'],
    filter: `(${$.eventId} is null or w.event_id = ${$.eventId}) and (${$.state} is null or w.state = ${$.state})
      and (${$.since} is null or w.planned_at >= ${$.since}) and (${$.until} is null or w.planned_at < ${$.until})
      ${byParts ? '' : 'and ($1::bigint[] is null or w.binding_id = any($1))'}`,
    returned: 'w.id',
  }),
})
const LIST_DELIVERIES = listOf(false)
const STATEMENTS = { whole: LIST_DELIVERIES, apart: listOf(true) }
const DELIVERIES = `${DELIVERY} where d.id = any($1::uuid[]) order by d.id desc`

const FIRST_ID = '00000000-0000-0000-0000-000000000000'
const LAST_ID = 'ffffffff-ffff-ffff-ffff-ffffffffffff'

export interface DeliveryFilter {
  readonly issuer: string | null
  /** Selects deliveries of any of these clients. */
  readonly clientIds: readonly string[] | null
  /** Kind of the channel. */
  readonly channel: string | null
  readonly state: string | null
  readonly eventId: string | null
  readonly since: Date | null
  readonly until: Date | null
  /** The last id of the page before. */
  readonly before: string | null
  readonly limit: number
}

/** Compares ids, the latest first. PostgreSQL orders UUIDs like their texts. */
const latestId = (a: { readonly id: string }, b: { readonly id: string }) =>
  a.id === b.id ? 0 : a.id > b.id ? -1 : 1

/**
 * Lists deliveries by id, the latest first. If the filter matches few rows, a page ends after a fixed number of rows that were
 * read, and `reached` is where the next page begins.
 */
export async function listDeliveries(
  db: Database,
  filter: DeliveryFilter,
): Promise<WalkedPage<DeliveryRecord, string>> {
  const { state, eventId, since, until, before, limit } = filter
  const bindings = await filteredBindings(db, filter)
  if (bindings?.length === 0) return { rows: [], reached: null }
  const [low, high] = eventId === null ? [FIRST_ID, LAST_ID] : deliveryIdRange(eventId)
  const values = ASKED.values({ low, high, before: before ?? LAST_ID, eventId, state, since, until })
  // The ids of one event's deliveries are adjacent, so these need no walk by binding.
  const { keys, reached } =
    bindings === null || eventId !== null
      ? await walk<{ id: string }>(db, LIST_DELIVERIES, { parts: bindings, limit, values })
      : await walkParts(db, STATEMENTS, { parts: bindings, limit, values, compare: latestId })
  const ids = plainArray(keys.map(({ id }) => id))
  const { rows } = await db.query<DeliveryRow>({
    name: 'deliveries_by_id',
    text: DELIVERIES,
    values: [ids],
  })
  return { rows: await withLastErrors(db, rows), reached: reached?.id ?? null }
}
