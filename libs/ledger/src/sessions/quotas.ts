import type { Issuer } from '@curfew/domain'
import { type Database, type Queryable, withTransaction } from '../postgres/database.ts'
import { tryLock } from '../postgres/locks.ts'
import { bumpRegistry, lockRegistry } from '../registry/registry.ts'

// How many sessions each issuer has in the index, and what follows where those are too many. An issuer over its quota is marked
// first, which is a change of the registry, and sessions are refused afterwards: every plan that is made after a refusal is made
// by a registry that says so. Sessions that are refused because the event log is full leave gaps in the index too, noted likewise.

/** SQL: whether the index has every session of an issuer. @param issuers alias of `issuers`. @param index alias of `session_issuers`. */
export const knowsAll = (issuers: string, index: string) =>
  `coalesce(${issuers}.session_index = 'complete' and ${index}.gaps_until is null, false)`

/** An issuer whose new sessions are refused. */
export interface OverQuota {
  readonly iss: Issuer
  /** The ledger knows that sessions which end until then may be missing from the index. */
  readonly gapsUntil: Date
}

const LIST_OVER_QUOTA = `
  select iss, gaps_until as "gapsUntil" from session_issuers where over_quota_since is not null`

/** Issuers over their quota of sessions. */
export async function listOverQuota(db: Database): Promise<readonly OverQuota[]> {
  const { rows } = await db.query<OverQuota>({ name: 'list_over_quota', text: LIST_OVER_QUOTA })
  return rows
}

const NOTE_GAPS = `
  update session_issuers set gaps_until = greatest(gaps_until, $2)
   where iss = $1 and over_quota_since is not null
  returning gaps_until as "gapsUntil"`

/**
 * Notes that sessions of an issuer which end until `until` may be refused from now on.
 *
 * @returns until when they may, or null where the issuer is within its quota: then none may be refused.
 */
export async function noteGaps(
  db: Database,
  { iss, until }: { iss: Issuer; until: Date },
): Promise<Date | null> {
  const { rows } = await db.query<{ gapsUntil: Date }>({
    name: 'note_gaps',
    text: NOTE_GAPS,
    values: [iss, until],
  })
  return rows[0]?.gapsUntil ?? null
}

const EXTEND_GAPS = `
  update session_issuers set gaps_until = greatest(gaps_until, $2) where iss = $1 and gaps_until is not null
  returning gaps_until as "gapsUntil"`

const OPEN_GAPS = `
  insert into session_issuers as x (iss, gaps_until) values ($1, $2)
  on conflict (iss) do update set gaps_until = greatest(x.gaps_until, excluded.gaps_until)
  returning gaps_until as "gapsUntil"`

/**
 * Notes that sessions of any issuer which end until `until` may be refused from now on, because the event log is full. The first
 * gap of an issuer changes the registry: every plan that is made after a refusal is made by a registry that has the gap.
 *
 * @returns until when sessions of the issuer may be refused.
 */
export async function noteBacklogGaps(
  db: Database,
  { iss, until }: { iss: Issuer; until: Date },
): Promise<Date> {
  const values = [iss, until]
  const extended = await db.query<{ gapsUntil: Date }>({ name: 'extend_gaps', text: EXTEND_GAPS, values })
  if (extended.rows[0] !== undefined) return extended.rows[0].gapsUntil
  return withTransaction(db, async (transaction) => {
    // The row first, then the registry: the bookkeeper locks them in the same order.
    const { rows } = await transaction.query<{ gapsUntil: Date }>({ text: OPEN_GAPS, values })
    await lockRegistry(transaction)
    await bumpRegistry(transaction)
    return rows[0]?.gapsUntil ?? until
  })
}

/** What the index holds of one issuer. */
export interface SessionCount {
  readonly iss: Issuer
  /** Short name; null where no issuer is registered with this `iss`. */
  readonly issuer: string | null
  /** From a sample where the index is large. */
  readonly sessions: number
  readonly quota: number
}

/** `over`, `within`: issuers that came to be so at this count. */
export interface QuotaRound {
  readonly counts: readonly SessionCount[]
  readonly over: readonly SessionCount[]
  readonly within: readonly SessionCount[]
}

/** Pages of each partition that are read for a count. A smaller partition is counted row by row. */
const SAMPLE_PAGES = 128
/** An issuer is within its quota again below this share of it: a count from a sample is a few percent off. */
const WITHIN = 0.95

const PARTITION_PAGES = `
  select inhrelid::regclass::text as name, pg_relation_size(inhrelid) / current_setting('block_size')::bigint as pages
    from pg_inherits where inhparent = 'sessions'::regclass order by inhrelid`

// Its name comes from the catalogue, quoted, and cannot be a parameter.
const sampleOf = (partition: string) =>
  `select issuer, count(*) as rows from ${partition} tablesample system ($1) group by issuer`

/** Rows of the index by the number of their issuer. */
async function countSessions(db: Database): Promise<ReadonlyMap<number, number>> {
  const counts = new Map<number, number>()
  const { rows: partitions } = await db.query<{ name: string; pages: number }>(PARTITION_PAGES)
  for (const { name, pages } of partitions) {
    const percent = Math.min(100, (100 * SAMPLE_PAGES) / Math.max(1, pages))
    const { rows } = await db.query<{ issuer: number; rows: number }>({
      text: sampleOf(name),
      values: [percent],
    })
    for (const { issuer, rows: found } of rows)
      counts.set(issuer, (counts.get(issuer) ?? 0) + (found * 100) / percent)
  }
  return counts
}

// A count that is nearly what it was is not written: with thousands of issuers that would be thousands of rows each time.
const WRITE_COUNTS = `
  update session_issuers x set sessions_counted = given.sessions
    from (
      select o.id, coalesce(g.sessions, 0) as sessions
        from session_issuers o
        left join unnest($1::int[], $2::bigint[]) as g(id, sessions) on g.id = o.id
    ) given
   where given.id = x.id
     and (x.sessions_counted is null or abs(x.sessions_counted - given.sessions) > x.sessions_counted * 0.01)`

const COUNTED = `
  select x.iss, i.name as issuer, x.sessions_counted as sessions, coalesce(i.sessions_max, $1::bigint) as quota,
         x.over_quota_since is not null as over,
         x.over_quota_since is null and x.gaps_until < now() - interval '1 minute' as healed
    from session_issuers x
    left join issuers i on i.iss = x.iss and i.deleted_at is null
   where x.sessions_counted > coalesce(i.sessions_max, $1::bigint) * 0.5 or x.over_quota_since is not null or x.gaps_until is not null
   order by x.iss`

const MARK = `
  update session_issuers set over_quota_since = now(), gaps_until = greatest(gaps_until, now()) where iss = any($1::text[])`
const UNMARK = 'update session_issuers set over_quota_since = null where iss = any($1::text[])'
// Checked again at the update: ingest may have noted a later gap since the issuers were read.
const HEAL = `
  update session_issuers set gaps_until = null
   where iss = any($1::text[]) and over_quota_since is null and gaps_until < now() - interval '1 minute'`

const NOTIFY = `
  insert into notifications (type, issuer, data)
  select 'session.over_quota', issuer,
         jsonb_build_object('issuer', issuer, 'iss', iss, 'sessions', sessions, 'quota', quota, 'what', what, 'fix', fix)
    from unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::text[], $6::text[])
      as over(issuer, iss, sessions, quota, what, fix)`

/**
 * Counts the sessions of each issuer; marks those that came to be over their quota, and tells operators; takes the mark from those
 * that are within it again. One bookkeeper at a time.
 *
 * @param quota of issuers that have none of their own.
 * @returns null where another bookkeeper is at it. Of `counts`, issuers with less than half of their quota are left out.
 */
export async function enforceSessionQuotas(
  db: Database,
  { quota }: { quota: number },
): Promise<QuotaRound | null> {
  const sessions = await countSessions(db)
  return withTransaction(db, async (transaction) => {
    if (!(await tryLock(transaction, 'sessionQuotas'))) return null
    await transaction.query({
      text: WRITE_COUNTS,
      values: [[...sessions.keys()], [...sessions.values()].map((each) => Math.round(each))],
    })
    const found = await readCounts(transaction, quota)
    const over = found.filter((each) => !each.over && each.sessions > each.quota)
    const within = found.filter((each) => each.over && each.sessions <= each.quota * WITHIN)
    const healed = found.filter((each) => each.healed)
    if (over.length + within.length + healed.length > 0) {
      await lockRegistry(transaction)
      const issOf = (some: readonly SessionCount[]) => [some.map(({ iss }) => iss)]
      await transaction.query(MARK, issOf(over))
      await transaction.query(UNMARK, issOf(within))
      await transaction.query(HEAL, issOf(healed.filter((each) => !over.includes(each))))
      await bumpRegistry(transaction)
      await notify(transaction, over)
    }
    return { counts: found.map(countOf), over: over.map(countOf), within: within.map(countOf) }
  })
}

type CountRow = SessionCount & { readonly over: boolean; readonly healed: boolean }

async function readCounts(transaction: Queryable, quota: number): Promise<readonly CountRow[]> {
  return (await transaction.query<CountRow>({ text: COUNTED, values: [quota] })).rows
}

function countOf({ iss, issuer, sessions, quota }: CountRow): SessionCount {
  return { iss, issuer, sessions, quota }
}

async function notify(transaction: Queryable, over: readonly SessionCount[]): Promise<void> {
  if (over.length === 0) return
  await transaction.query({
    text: NOTIFY,
    values: [
      over.map(({ issuer }) => issuer),
      over.map(({ iss }) => iss),
      over.map(({ sessions }) => sessions),
      over.map(({ quota }) => quota),
      over.map(
        ({ iss, sessions, quota }) =>
          `The session index has about ${sessions} sessions of ${iss}; its quota is ${quota}. New ones are refused with 429, and its logouts are planned as if session_index were partial.`,
      ),
      over.map(
        () =>
          'See that the IdP posts sessions with their real expires_at, and their ends. Where it needs more, raise quotas.sessions of the issuer.',
      ),
    ],
  })
}
