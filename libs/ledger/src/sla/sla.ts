import {
  addCounts,
  type BurnWindow,
  burnIntervals,
  decodeLatencies,
  intervalsOf,
  type LatencyHistogram,
  NO_COUNTS,
  type SlaCounts,
  type SlaInterval,
  type SlaPromise,
} from '@curfew/domain'
import type { Queryable } from '../postgres/database.ts'
import { rowParameters } from '../postgres/parameters.ts'

/** SQL: the promise for a relying party `p` of an issuer `i`, in milliseconds. */
export const WITHIN_MS = "coalesce((p.settings #>> '{sla,within_ms}')::integer, i.sla_within_ms)"

/** The relying parties whose SLA is read. */
export interface SlaScope {
  /** Short name of the issuer. */
  readonly issuer: string
  /** Only these clients; null: all relying parties of the issuer, including removed ones. */
  readonly clientIds: readonly string[] | null
}

const PARTIES = `
  select b.id as binding_id, p.client_id,
         ${WITHIN_MS} as within_ms,
         coalesce((p.settings #>> '{sla,objective}')::float8, i.sla_objective) as objective
    from issuers i
    join relying_parties p on p.issuer = i.name
    join bindings b on b.relying_party_id = p.id
   where i.name = $1 and ($2::text[] is null or p.client_id = any($2))`

const READ_PROMISES = `
  select distinct client_id as "clientId", within_ms as "withinMs", objective from (${PARTIES}) parties order by 1`

/** Reads the promise for each relying party that ever had a binding, from its own settings or its issuer's. */
export async function readPromises(
  db: Queryable,
  { issuer, clientIds }: SlaScope,
): Promise<ReadonlyMap<string, SlaPromise>> {
  const { rows } = await db.query<SlaPromise & { readonly clientId: string }>({
    text: READ_PROMISES,
    values: [issuer, clientIds],
  })
  return new Map(rows.map(({ clientId, withinMs, objective }) => [clientId, { withinMs, objective }]))
}

type PartInterval = SlaInterval & { readonly part?: string; readonly withinMs: number }

const INTERVALS = rowParameters<PartInterval>(
  {
    within_ms: ['int', ({ withinMs }) => withinMs],
    part: ['word', ({ part = 'all' }) => part],
    span: ['word', ({ span }) => span],
    from_at: ['timestamptz', ({ fromMs }) => new Date(fromMs)],
    to_at: ['timestamptz', ({ toMs }) => new Date(toMs)],
    counted: ['boolean', ({ counted }) => counted],
    past: ['boolean', ({ past }) => past],
  },
  // The issuer and the clients.
  { after: { last: 2 } },
)

// The intervals to read depend on the promise alone, so they are given once for each distinct promise.
const PARTY_INTERVALS = `
  from (${PARTIES}) parties
  join ${INTERVALS.as('s')} using (within_ms)`

const ROLLUPS_OF_INTERVAL = `
  from sla_rollups r
 where r.span = s.span and r.binding_id = parties.binding_id and r.starts_at >= s.from_at and r.starts_at < s.to_at`

// Sums up by interval first: an interval has many rows, and there are few intervals.
const SUMS = `sum(planned) as planned, sum(kept) as kept, sum(broken) as broken,
  sum(greatest(planned - kept - broken, 0)) as unsettled`

const COUNTS = `
  coalesce(sum(planned) filter (where counted), 0)::bigint as planned,
  coalesce(sum(kept) filter (where counted), 0)::bigint as kept,
  coalesce(sum(broken) filter (where counted), 0)::bigint as broken,
  coalesce(sum(unsettled) filter (where past), 0)::bigint as overdue,
  coalesce(sum((1 - objective) * (case when counted then kept + broken else 0 end
    + case when past then unsettled else 0 end)::float8), 0) as allowed`

const LATENCIES = `string_agg(latencies, ''::bytea) filter (where counted) as latencies`

const READ_BY_PARTY = `
  select client_id as "group", ${COUNTS}, ${LATENCIES}
  ${PARTY_INTERVALS}
  cross join lateral (select ${SUMS}, string_agg(latencies, ''::bytea) as latencies ${ROLLUPS_OF_INTERVAL}) sums
   group by client_id having sum(planned) > 0 order by client_id collate "C"`

const READ_BY_HOUR = `
  select (extract(epoch from hour) * 1000)::bigint as "group", ${COUNTS}, ${LATENCIES}
  ${PARTY_INTERVALS}
  cross join lateral (
    select date_bin('1 hour', starts_at, timestamptz 'epoch') as hour, ${SUMS}, string_agg(latencies, ''::bytea) as latencies
    ${ROLLUPS_OF_INTERVAL} group by 1) sums
   group by hour order by hour`

const READ_BY_PART = `
  select part as "group", ${COUNTS}
  ${PARTY_INTERVALS}
  cross join lateral (select ${SUMS} ${ROLLUPS_OF_INTERVAL}) sums
   group by part`

/** SLA counts and latencies of a group of deliveries. */
export interface SlaFigures extends SlaCounts {
  /** Times from acceptance to acknowledgement. */
  readonly latencies: LatencyHistogram
}

/** Figures by `client_id`, or by the start of the hour in milliseconds since 1970. */
export type SlaGroups<Key> = ReadonlyMap<Key, SlaFigures>

type Row<Key> = SlaCounts & { readonly group: Key; readonly latencies: Uint8Array | null }

/** Reads the figures of a range of full hours, by relying party. Reads a few rollups for each, and no deliveries. */
export async function slaByParty(
  db: Queryable,
  scope: SlaScope,
  { promises, range, nowMs }: SlaRequest,
): Promise<SlaGroups<string>> {
  const intervals = intervalsByPromise(promises, (withinMs) => intervalsOf(range, { nowMs, withinMs }))
  return read<string>(db, READ_BY_PARTY, scope, intervals)
}

/** Reads the figures of a range of full hours, by hour. */
export async function slaByHour(
  db: Queryable,
  scope: SlaScope,
  { promises, range, nowMs }: SlaRequest,
): Promise<SlaGroups<number>> {
  const intervals = intervalsByPromise(promises, (withinMs) =>
    intervalsOf(range, { nowMs, withinMs, byHour: true }),
  )
  return read<number>(db, READ_BY_HOUR, scope, intervals)
}

export interface SlaRequest {
  readonly promises: ReadonlyMap<string, SlaPromise>
  /** In milliseconds since 1970. */
  readonly range: { readonly fromMs: number; readonly toMs: number }
  /** The time at which unsettled deliveries are judged overdue; see `slaFiledUntil`. In milliseconds since 1970. */
  readonly nowMs: number
}

/** Recent SLA counts by burn window, and the counts of the whole window of the error budget. */
export interface SlaNow {
  readonly windows: Readonly<Record<BurnWindow, SlaCounts>>
  readonly all: SlaCounts
}

/** Reads the recent SLA counts. @param range the window of the error budget; null if its counts are not needed. */
export async function slaNow(
  db: Queryable,
  scope: SlaScope,
  { promises, range, nowMs }: Omit<SlaRequest, 'range'> & { readonly range: SlaRequest['range'] | null },
): Promise<SlaNow> {
  const intervals = intervalsByPromise(promises, (withinMs) => [
    ...(range === null ? [] : intervalsOf(range, { nowMs, withinMs })).map((interval) => ({
      ...interval,
      part: 'all',
    })),
    ...[...burnIntervals({ nowMs, withinMs })].flatMap(([part, parts]) =>
      parts.map((interval) => ({ ...interval, part })),
    ),
  ])
  const groups = await read<string>(db, READ_BY_PART, scope, intervals)
  const of = (part: string): SlaCounts => groups.get(part) ?? NO_COUNTS
  const windows = { '5m': of('5m'), '30m': NO_COUNTS, '1h': NO_COUNTS, '6h': NO_COUNTS }
  windows['30m'] = addCounts(windows['5m'], of('30m'))
  windows['1h'] = addCounts(windows['30m'], of('1h'))
  windows['6h'] = addCounts(windows['1h'], of('6h'))
  return { windows, all: of('all') }
}

function intervalsByPromise(
  promises: ReadonlyMap<string, SlaPromise>,
  intervals: (withinMs: number) => readonly Omit<PartInterval, 'withinMs'>[],
): readonly PartInterval[] {
  const distinct = new Set([...promises.values()].map(({ withinMs }) => withinMs))
  return [...distinct].flatMap((withinMs) =>
    intervals(withinMs).map((interval) => ({ ...interval, withinMs })),
  )
}

async function read<Key>(
  db: Queryable,
  text: string,
  { issuer, clientIds }: SlaScope,
  intervals: readonly PartInterval[],
): Promise<SlaGroups<Key>> {
  // Not prepared by name: one relying party and thousands of them need different plans.
  const { rows } = await db.query<Row<Key>>({
    text,
    values: [issuer, clientIds, ...INTERVALS.values(intervals)],
  })
  return new Map(
    rows.map(({ group, planned, kept, broken, overdue, allowed, latencies }) => [
      group,
      {
        ...{ planned, kept, broken, overdue, allowed },
        latencies: decodeLatencies(latencies ?? new Uint8Array()),
      },
    ]),
  )
}

// Entries that the SLA's projector failed at are not in the rollups either.
const OLDEST_ENTRY = `
  select min(at) as at
    from ((select at from journal order by id limit 1)
          union all (select at from journal_left where projector = 'sla' order by id limit 1)) entries`

/**
 * Returns the time up to which the rollups have every planned and settled delivery. Judge them by this time: a delivery that was
 * settled later may still count as unsettled.
 */
export async function slaFiledUntil(db: Queryable, now: Date): Promise<Date> {
  const { rows } = await db.query<{ at: Date | null }>({ name: 'sla_filed_until', text: OLDEST_ENTRY })
  const oldest = rows[0]?.at ?? now
  return oldest > now ? now : oldest
}

const DELETE_ROLLUPS = `
  delete from sla_rollups where ctid = any(array(
    select r.ctid
      from bindings b
      cross join (values ('slot', $1::timestamptz), ('hour', $2), ('day', $2)) as kept(span, since)
      join sla_rollups r on r.span = kept.span and r.binding_id = b.id and r.starts_at < kept.since
     limit $3))`

/** Deletes one batch of rollups at the end of their retention. @returns the number deleted. */
export async function deleteSlaRollups(
  db: Queryable,
  { slotsBefore, before, limit }: { slotsBefore: Date; before: Date; limit: number },
): Promise<number> {
  const { rowCount } = await db.query({
    name: 'delete_sla_rollups',
    text: DELETE_ROLLUPS,
    values: [slotsBefore, before, limit],
  })
  return rowCount ?? 0
}
