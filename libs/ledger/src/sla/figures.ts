import {
  addCounts,
  decodeHistogram,
  type Histogram,
  NO_COUNTS,
  type SlaCounts,
  type SlaInterval,
  type SlaPromise,
  spanStart,
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

// The intervals to read depend on the promise alone, so they are given once for each distinct promise. The parties are read once,
// not once for each interval.
const PARTIES_ONCE = `with parties as materialized (${PARTIES})`
const PARTY_INTERVALS = `from parties join ${INTERVALS.as('s')} on s.within_ms = parties.within_ms and s.span <> 'tick'`

// Several intervals of ticks may be in one slot. Each slot is read once. `offset 0` keeps the subquery a lookup: with a join, the
// planner may read all rollups.
const PARTY_TICKS = `
  from parties
  join (select distinct within_ms, date_bin('5 minutes', from_at, timestamptz 'epoch') as slot_at
          from ${INTERVALS.as('s')} where span = 'tick') s on s.within_ms = parties.within_ms
  cross join lateral (
    select histogram from sla_rollups r
     where r.span = 'slot' and r.binding_id = parties.binding_id and r.starts_at = s.slot_at offset 0) r`

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

/** A statement that reads the figures of groups. */
export interface Reading<Key> {
  /**
   * Returns rows without `slotMs` first: the counts of a group. A row with `slotMs` has the histograms of a slot, from which
   * `readFigures` adds ticks: PostgreSQL cannot decode them.
   */
  readonly text: string
  /** Returns the group of an interval of ticks. @param group the group of the slot. */
  tickGroup(group: Key, interval: PartInterval): Key
}

/**
 * SQL of a `Reading`.
 *
 * @param group SQL: the group of an interval's rollups. @param sums the sums of an interval's rollups, by group if it has several.
 * @param slotGroup SQL: the group of a slot with ticks.
 */
function figures({
  group,
  sums,
  histogram = 'null::bytea',
  having = 'true',
  slotGroup = group,
  order = '"group"',
}: {
  group: string
  sums: string
  histogram?: string
  having?: string
  slotGroup?: string
  order?: string
}): string {
  return `
  ${PARTIES_ONCE}
  select * from (
    select ${group} as "group", ${COUNTS}, ${histogram} as histogram,
           null::bigint as "slotMs", null::integer as "withinMs", null::float8 as objective
    ${PARTY_INTERVALS}
    cross join lateral (${sums}) sums
     group by 1 having ${having}
    union all
    select ${slotGroup}, 0, 0, 0, 0, 0, string_agg(r.histogram, ''::bytea),
           (extract(epoch from s.slot_at) * 1000)::bigint, s.within_ms, objective
    ${PARTY_TICKS}
     group by 1, s.slot_at, s.within_ms, objective
  ) figures order by "slotMs" nulls first, ${order}`
}

// The histogram of a slot has ticks, not latencies.
const LATENCIES = "string_agg(histogram, ''::bytea) filter (where r.span <> 'slot') as histogram"

/** Groups by `client_id`. */
export const READ_BY_PARTY: Reading<string> = {
  text: figures({
    group: 'client_id',
    sums: `select ${SUMS}, ${LATENCIES} ${ROLLUPS_OF_INTERVAL}`,
    histogram: "string_agg(histogram, ''::bytea) filter (where counted)",
    having: 'sum(planned) > 0',
    order: '"group" collate "C"',
  }),
  tickGroup: (clientId) => clientId,
}

const hourOf = (column: string) =>
  `(extract(epoch from date_bin('1 hour', ${column}, timestamptz 'epoch')) * 1000)::bigint`

/** Groups by the start of the hour in milliseconds since 1970. */
export const READ_BY_HOUR: Reading<number> = {
  text: figures({
    group: 'hour',
    sums: `select ${hourOf('starts_at')} as hour, ${SUMS}, ${LATENCIES} ${ROLLUPS_OF_INTERVAL} group by 1`,
    histogram: "string_agg(histogram, ''::bytea) filter (where counted)",
    slotGroup: hourOf('s.slot_at'),
  }),
  tickGroup: (hourMs) => hourMs,
}

/** Groups by part and issuer, with a space between them: a part has none. */
export const READ_BY_PART: Reading<string> = {
  text: figures({
    group: "part || ' ' || issuer",
    sums: `select ${SUMS} ${ROLLUPS_OF_INTERVAL}`,
    slotGroup: 'issuer',
  }),
  tickGroup: (issuer, { part }) => `${part} ${issuer}`,
}

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
  readonly slotMs: null
}

interface SlotRow<Key> extends SlaPromise {
  readonly group: Key
  readonly histogram: Uint8Array
  readonly slotMs: number
}

/** The relying parties whose rollups are read. */
export interface ReadScope {
  /** Short names. */
  readonly issuers: readonly string[]
  readonly clientIds: readonly string[] | null
}

/** Reads the figures of groups over intervals. @param reading one of those above. */
export async function readFigures<Key>(
  db: Queryable,
  reading: Reading<Key>,
  { issuers, clientIds }: ReadScope,
  intervals: readonly PartInterval[],
): Promise<SlaGroups<Key>> {
  // Not prepared by name: one relying party and thousands of them need different plans.
  const { rows } = await db.query<GroupRow<Key> | SlotRow<Key>>({
    text: reading.text,
    values: [issuers, clientIds, ...INTERVALS.values(intervals)],
  })
  const slots = Map.groupBy(
    intervals.filter(({ span }) => span === 'tick'),
    ({ withinMs, fromMs }) => slotKey(withinMs, spanStart('slot', fromMs)),
  )
  const groups = new Map<Key, SlaFigures>()
  for (const row of rows) {
    if (row.slotMs === null) {
      groups.set(row.group, figuresOf(row))
      continue
    }
    const ticks = decodeHistogram(row.histogram)
    for (const interval of slots.get(slotKey(row.withinMs, row.slotMs)) ?? []) {
      const group = reading.tickGroup(row.group, interval)
      const known = groups.get(group)
      const counts = countsOf(ticks, interval, row)
      if (known !== undefined || counts.planned + counts.overdue > 0)
        groups.set(group, { latencies: new Map(), ...known, ...addCounts(known ?? NO_COUNTS, counts) })
    }
  }
  return groups
}

function slotKey(withinMs: number, slotMs: number): string {
  return `${withinMs} ${slotMs}`
}

function figuresOf({ planned, kept, broken, overdue, allowed, histogram }: GroupRow<unknown>): SlaFigures {
  return {
    ...{ planned, kept, broken, overdue, allowed },
    latencies: decodeHistogram(histogram ?? new Uint8Array()),
  }
}

/** The counts of an interval of ticks. @param ticks the histogram of its slot. */
function countsOf(ticks: Histogram, interval: PartInterval, { objective }: SlaPromise): SlaCounts {
  const { counted, past } = interval
  const { planned, kept, broken, unsettled } = sumTicks(ticks, interval)
  const overdue = past ? unsettled : 0
  const decided = (counted ? kept + broken : 0) + overdue
  return {
    ...(counted ? { planned, kept, broken } : NO_COUNTS),
    overdue,
    allowed: (1 - objective) * decided,
  }
}
