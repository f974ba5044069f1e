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

/** What is promised for a relying party (`p`) of an issuer (`i`). */
export const WITHIN_MS = "coalesce((p.settings #>> '{sla,within_ms}')::integer, i.sla_within_ms)"

/** Whose promises. */
export interface SlaScope {
  /** Short name of the issuer. */
  readonly issuer: string
  /** Only these; null: all of its relying parties, also those that were removed. */
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

/** What is promised to each relying party that was ever told of anything, by its own settings or its issuer's. */
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

// Which rollups there are to read depends on the promise alone, so it is said once for each that there is.
const STRETCHES = `
  from (${PARTIES}) parties
  join ${INTERVALS.as('s')} using (within_ms)`

const OF_STRETCH = `
  from sla_rollups r
 where r.span = s.span and r.binding_id = parties.binding_id and r.starts_at >= s.from_at and r.starts_at < s.to_at`

// Summed up by stretch first: there are many rows to a stretch, and few stretches.
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
  ${STRETCHES}
  cross join lateral (select ${SUMS}, string_agg(latencies, ''::bytea) as latencies ${OF_STRETCH}) sums
   group by client_id having sum(planned) > 0 order by client_id collate "C"`

const READ_BY_HOUR = `
  select (extract(epoch from hour) * 1000)::bigint as "group", ${COUNTS}, ${LATENCIES}
  ${STRETCHES}
  cross join lateral (
    select date_bin('1 hour', starts_at, timestamptz 'epoch') as hour, ${SUMS}, string_agg(latencies, ''::bytea) as latencies
    ${OF_STRETCH} group by 1) sums
   group by hour order by hour`

const READ_BY_PART = `
  select part as "group", ${COUNTS}
  ${STRETCHES}
  cross join lateral (select ${SUMS} ${OF_STRETCH}) sums
   group by part`

/** How the promise stands with some of the deliveries. */
export interface SlaFigures extends SlaCounts {
  /** From acceptance to acknowledgement. */
  readonly latencies: LatencyHistogram
}

/** `client_id`, or the beginning of the hour in milliseconds of the epoch. */
export type SlaGroups<Key> = ReadonlyMap<Key, SlaFigures>

type Row<Key> = SlaCounts & { readonly group: Key; readonly latencies: Uint8Array | null }

/** What the rollups say of a time, from and to the full hour, by relying party. Reads some rows for each, never the ledger. */
export async function slaByParty(
  db: Queryable,
  scope: SlaScope,
  { promises, range, nowMs }: SlaRequest,
): Promise<SlaGroups<string>> {
  const intervals = intervalsByPromise(promises, (withinMs) => intervalsOf(range, { nowMs, withinMs }))
  return read<string>(db, READ_BY_PARTY, scope, intervals)
}

/** The same by hour. */
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
  /** Milliseconds of the epoch. */
  readonly range: { readonly fromMs: number; readonly toMs: number }
  /** What is overdue then; see `slaFiledUntil`. */
  readonly nowMs: number
}

/** How the promise stands lately, by how far one looks back; and over the whole time that there is a budget for. */
export interface SlaNow {
  readonly windows: Readonly<Record<BurnWindow, SlaCounts>>
  readonly all: SlaCounts
}

/** @param range the whole time that there is a budget for; null where that is known already. */
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
  // Not prepared by name: one plan would not do for one relying party and for thousands.
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

// What the rollups' own poster failed at is not in them either.
const OLDEST_ENTRY = `
  select min(at) as at
    from ((select at from journal order by id limit 1)
          union all (select at from journal_left where projector = 'sla' order by id limit 1)) entries`

/**
 * Until when all that was planned and settled is in the rollups: the time to judge them by. What is settled since may look as
 * if it were not.
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

/** Deletes rollups that begin before they are kept for, one batch. @returns how many. */
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
