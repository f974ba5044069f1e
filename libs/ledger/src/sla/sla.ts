import {
  addCounts,
  type BurnWindow,
  burnIntervals,
  intervalsOf,
  NO_COUNTS,
  type SlaCounts,
  type SlaPromise,
} from '@curfew/domain'
import type { Queryable } from '../postgres/database.ts'
import {
  PARTIES,
  type PartInterval,
  READ_BY_HOUR,
  READ_BY_PART,
  READ_BY_PARTY,
  type ReadScope,
  readFigures,
  type SlaGroups,
} from './figures.ts'

/** The relying parties whose SLA is read. */
export interface SlaScope {
  /** Short name of the issuer. */
  readonly issuer: string
  /** Only these clients; null: all relying parties of the issuer, including removed ones. */
  readonly clientIds: readonly string[] | null
}

const READ_PROMISES = `
  select distinct client_id as "clientId", within_ms as "withinMs", objective from (${PARTIES}) parties order by 1`

/** Reads the promise for each relying party that ever had a binding, from its own settings or its issuer's. */
export async function readPromises(
  db: Queryable,
  { issuer, clientIds }: SlaScope,
): Promise<ReadonlyMap<string, SlaPromise>> {
  const { rows } = await db.query<SlaPromise & { readonly clientId: string }>({
    text: READ_PROMISES,
    values: [[issuer], clientIds],
  })
  return new Map(rows.map(({ clientId, withinMs, objective }) => [clientId, { withinMs, objective }]))
}

/** Reads the figures of a range of full hours, by relying party. Reads a few rollups for each, and no deliveries. */
export async function slaByParty(
  db: Queryable,
  scope: SlaScope,
  { promises, range, nowMs }: SlaRequest,
): Promise<SlaGroups<string>> {
  const intervals = intervalsByPromise(promises, (withinMs) => intervalsOf(range, { nowMs, withinMs }))
  return readFigures(db, READ_BY_PARTY, readScope(scope), intervals)
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
  return readFigures(db, READ_BY_HOUR, readScope(scope), intervals)
}

export interface SlaRequest {
  readonly promises: ReadonlyMap<string, SlaPromise>
  /** In milliseconds since 1970. */
  readonly range: { readonly fromMs: number; readonly toMs: number }
  /** The time at which unsettled deliveries are judged overdue; see `slaFiledUntil`. In milliseconds since 1970. */
  readonly nowMs: number
}

/** Recent SLA counts by burn window. */
export type BurnCounts = Readonly<Record<BurnWindow, SlaCounts>>

/** Recent SLA counts by burn window, and the counts of the whole window of the error budget. */
export interface SlaNow {
  readonly windows: BurnCounts
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
    ...burnParts(nowMs, withinMs),
  ])
  const groups = await readFigures(db, READ_BY_PART, readScope(scope), intervals)
  return { windows: windowsOf(groups, scope.issuer), all: groups.get(`all ${scope.issuer}`) ?? NO_COUNTS }
}

const READ_LIMITS = `select distinct within_ms as "withinMs" from (${PARTIES}) parties`

/**
 * Reads the recent SLA counts of several issuers by burn window, all relying parties included. Reads some forty rollups for each
 * relying party.
 *
 * @param nowMs as in `SlaRequest`.
 */
export async function slaBurns(
  db: Queryable,
  { issuers, nowMs }: { readonly issuers: readonly string[]; readonly nowMs: number },
): Promise<ReadonlyMap<string, BurnCounts>> {
  const { rows } = await db.query<{ withinMs: number }>({ text: READ_LIMITS, values: [issuers, null] })
  const intervals = rows.flatMap(({ withinMs }) =>
    burnParts(nowMs, withinMs).map((interval) => ({ ...interval, withinMs })),
  )
  const groups = await readFigures(db, READ_BY_PART, { issuers, clientIds: null }, intervals)
  return new Map(issuers.map((issuer) => [issuer, windowsOf(groups, issuer)]))
}

function burnParts(nowMs: number, withinMs: number) {
  return [...burnIntervals({ nowMs, withinMs })].flatMap(([part, intervals]) =>
    intervals.map((interval) => ({ ...interval, part })),
  )
}

/** Sums up the parts of an issuer's windows: a part excludes the shorter windows. */
function windowsOf(groups: SlaGroups<string>, issuer: string): BurnCounts {
  const of = (part: BurnWindow): SlaCounts => groups.get(`${part} ${issuer}`) ?? NO_COUNTS
  const windows = { '5m': of('5m'), '30m': NO_COUNTS, '1h': NO_COUNTS, '6h': NO_COUNTS }
  windows['30m'] = addCounts(windows['5m'], of('30m'))
  windows['1h'] = addCounts(windows['30m'], of('1h'))
  windows['6h'] = addCounts(windows['1h'], of('6h'))
  return windows
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

function readScope({ issuer, clientIds }: SlaScope): ReadScope {
  return { issuers: [issuer], clientIds }
}

// Entries that the SLA's projector failed at are not in the rollups either. A single delivery that failed on its own may fail for
// ever, so it holds nothing up: it counts as planned only, or not at all, until it is projected.
const OLDEST_ENTRY = `
  select min(at) as at
    from ((select at from journal order by id limit 1)
          union all (select at from journal_left
            where projector = 'sla' and not (failed_at > '-infinity' and cardinality(delivery_ids) <= 1)
            order by id limit 1)) entries`

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
