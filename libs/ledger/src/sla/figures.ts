import {
  addCounts,
  decodeHistogram,
  type Histogram,
  NO_COUNTS,
  type SlaCounts,
  type SlaInterval,
  sumTicks,
} from '@curfew/domain'
import type { Queryable } from '../postgres/database.ts'
import { rowParameters } from '../postgres/parameters.ts'

// Reads figures from the rollups of intervals.

/** SQL: the promise for a relying party `p` of an issuer `i`, in milliseconds. */
export const WITHIN_MS = "coalesce((p.settings #>> '{sla,within_ms}')::integer, i.sla_within_ms)"

/** SQL: the bindings of the issuers $1 and, if given, of the clients $2, with their promise. */
export const PARTIES = `
  select i.name as issuer, b.id as binding_id, p.client_id,
         ${WITHIN_MS} as within_ms,
         coalesce((p.settings #>> '{sla,objective}')::float8, i.sla_objective) as objective
    from issuers i
    join relying_parties p on p.issuer = i.name
    join bindings b on b.relying_party_id = p.id
   where i.name = any($1::text[]) and ($2::text[] is null or p.client_id = any($2))`

/** An interval to read for the relying parties with this promise. `part`: its group, if grouped by part. */
export type PartInterval = SlaInterval & { readonly part?: string; readonly withinMs: number }

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
  // The issuers and the clients.
  { after: { last: 2 } },
)

// The intervals to read depend on the promise alone, so they are given once for each distinct promise.
const PARTY_INTERVALS = `
  from (${PARTIES}) parties
  join ${INTERVALS.as('s')} on s.within_ms = parties.within_ms`

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

/**
 * SQL: the figures of groups. A row without `fromMs` has the counts of a group. A row with it has the histograms of slots, from
 * which the ticks of an interval are added to the group: PostgreSQL cannot decode them.
 *
 * @param group SQL: the group of an interval's rollups. @param sums the sums of an interval's rollups, by group if it has several.
 * @param tickGroup SQL: the group of ticks.
 */
function figures({
  group,
  sums,
  histogram = 'null::bytea',
  having = 'true',
  tickGroup = group,
  order,
}: {
  group: string
  sums: string
  histogram?: string
  having?: string
  tickGroup?: string
  order: string
}): string {
  return `
  select * from (
    select ${group} as "group", ${COUNTS}, ${histogram} as histogram,
           null::bigint as "fromMs", null::bigint as "toMs", null::boolean as counted, null::boolean as past, null::float8 as objective
    ${PARTY_INTERVALS} and s.span <> 'tick'
    cross join lateral (${sums}) sums
     group by 1 having ${having}
    union all
    select ${tickGroup}, 0, 0, 0, 0, 0, string_agg(r.histogram, ''::bytea),
           (extract(epoch from s.from_at) * 1000)::bigint, (extract(epoch from s.to_at) * 1000)::bigint, s.counted, s.past, objective
    ${PARTY_INTERVALS} and s.span = 'tick'
    join sla_rollups r on r.span = 'slot' and r.binding_id = parties.binding_id
     and r.starts_at = date_bin('5 minutes', s.from_at, timestamptz 'epoch')
     group by 1, s.from_at, s.to_at, s.counted, s.past, objective
  ) figures order by ${order}`
}

// The histogram of a slot has ticks, not latencies.
const LATENCIES = "string_agg(histogram, ''::bytea) filter (where r.span <> 'slot') as histogram"

export const READ_BY_PARTY = figures({
  group: 'client_id',
  sums: `select ${SUMS}, ${LATENCIES} ${ROLLUPS_OF_INTERVAL}`,
  histogram: "string_agg(histogram, ''::bytea) filter (where counted)",
  having: 'sum(planned) > 0',
  order: '"group" collate "C", "fromMs" nulls first',
})

const hourOf = (column: string) =>
  `(extract(epoch from date_bin('1 hour', ${column}, timestamptz 'epoch')) * 1000)::bigint`

export const READ_BY_HOUR = figures({
  group: 'hour',
  sums: `select ${hourOf('starts_at')} as hour, ${SUMS}, ${LATENCIES} ${ROLLUPS_OF_INTERVAL} group by 1`,
  histogram: "string_agg(histogram, ''::bytea) filter (where counted)",
  tickGroup: hourOf('s.from_at'),
  order: '"group", "fromMs" nulls first',
})

/** Grouped by part and issuer, with a space between them: a part has none. */
export const READ_BY_PART = figures({
  group: "part || ' ' || issuer",
  sums: `select ${SUMS} ${ROLLUPS_OF_INTERVAL}`,
  order: '"group", "fromMs" nulls first',
})

/** SLA counts and latencies of a group of deliveries. */
export interface SlaFigures extends SlaCounts {
  /** Times from acceptance to acknowledgement. */
  readonly latencies: Histogram
}

/** Figures by `client_id`, or by the start of the hour in milliseconds since 1970. */
export type SlaGroups<Key> = ReadonlyMap<Key, SlaFigures>

interface GroupRow<Key> extends SlaCounts {
  readonly group: Key
  readonly histogram: Uint8Array | null
  readonly fromMs: null
}

interface TicksRow<Key> extends Pick<SlaInterval, 'fromMs' | 'toMs' | 'counted' | 'past'> {
  readonly group: Key
  readonly histogram: Uint8Array
  readonly objective: number
}

/** The relying parties whose rollups are read. */
export interface ReadScope {
  /** Short names. */
  readonly issuers: readonly string[]
  readonly clientIds: readonly string[] | null
}

/** Reads the figures of groups over intervals. @param text one of the statements above. */
export async function readFigures<Key>(
  db: Queryable,
  text: string,
  { issuers, clientIds }: ReadScope,
  intervals: readonly PartInterval[],
): Promise<SlaGroups<Key>> {
  // Not prepared by name: one relying party and thousands of them need different plans.
  const { rows } = await db.query<GroupRow<Key> | TicksRow<Key>>({
    text,
    values: [issuers, clientIds, ...INTERVALS.values(intervals)],
  })
  const groups = new Map<Key, SlaFigures>()
  for (const row of rows) {
    const known = groups.get(row.group)
    if (row.fromMs === null) groups.set(row.group, figuresOf(row))
    else {
      const counts = countsOf(row)
      if (known !== undefined || counts.planned + counts.overdue > 0)
        groups.set(row.group, { latencies: new Map(), ...known, ...addCounts(known ?? NO_COUNTS, counts) })
    }
  }
  return groups
}

function figuresOf({ planned, kept, broken, overdue, allowed, histogram }: GroupRow<unknown>): SlaFigures {
  return {
    ...{ planned, kept, broken, overdue, allowed },
    latencies: decodeHistogram(histogram ?? new Uint8Array()),
  }
}

/** The counts of an interval of ticks. */
function countsOf({ histogram, counted, past, objective, ...interval }: TicksRow<unknown>): SlaCounts {
  const { planned, kept, broken, unsettled } = sumTicks(decodeHistogram(histogram), interval)
  const overdue = past ? unsettled : 0
  const decided = (counted ? kept + broken : 0) + overdue
  return {
    ...(counted ? { planned, kept, broken } : NO_COUNTS),
    overdue,
    allowed: (1 - objective) * decided,
  }
}
