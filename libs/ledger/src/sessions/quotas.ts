import type { Issuer } from '@curfew/domain'
import { type Database, type Queryable, withTransaction } from '../postgres/database.ts'
import { tryLock } from '../postgres/locks.ts'
import { bumpRegistry, lockRegistry } from '../registry/registry.ts'

// The number of indexed sessions of each issuer, and the refusal of sessions over the quota. An issuer over its quota is first
// marked in the registry; only then are its sessions refused. So every plan after a refusal knows that sessions may be missing
// from the index. A full event log also refuses sessions. Those gaps are recorded in the same way.

/**
 * SQL: whether the index has every session of an issuer.
 *
 * @param issuers alias of `issuers`.
 * @param index alias of `session_issuers`.
 */
export const knowsAll = (issuers: string, index: string) =>
  `coalesce(${issuers}.session_index = 'complete' and ${index}.gaps_until is null, false)`

/**
 * The end of a gap that a refused session without an end leaves: no time ends it. It ends when an operator sets `session_index` to
 * `complete` again, and so asserts that every session was posted.
 */
export const ENDLESS_GAP = new Date('9999-12-31T23:59:59.999Z')

const LOCK_GAPS = 'select from session_issuers where iss = $1 for update'

/** Locks the gaps of an issuer. To be called before `lockRegistry`, in the same order as the bookkeeper. */
export async function lockGaps(transaction: Queryable, iss: Issuer): Promise<void> {
  await transaction.query({ name: 'lock_gaps', text: LOCK_GAPS, values: [iss] })
}

const CLOSE_ENDLESS_GAP = `
  update session_issuers set gaps_until = null where iss = $1 and gaps_until >= $2 and over_quota_since is null`

/** Closes a gap without an end, unless sessions are refused at present. */
export async function closeEndlessGap(transaction: Queryable, iss: Issuer): Promise<void> {
  await transaction.query({ name: 'close_endless_gap', text: CLOSE_ENDLESS_GAP, values: [iss, ENDLESS_GAP] })
}

/** An issuer whose new sessions are refused. */
export interface OverQuota {
  readonly iss: Issuer
  /** Sessions that expire up to this time may be missing from the index, and the ledger says so. */
  readonly gapsUntil: Date
}

const LIST_OVER_QUOTA = `
  select iss, gaps_until as "gapsUntil" from session_issuers where over_quota_since is not null`

/** Lists the issuers over their quota of sessions. */
export async function listOverQuota(db: Database): Promise<readonly OverQuota[]> {
  const { rows } = await db.query<OverQuota>({ name: 'list_over_quota', text: LIST_OVER_QUOTA })
  return rows
}

const NOTE_GAPS = `
  update session_issuers set gaps_until = greatest(gaps_until, $2)
   where iss = $1 and over_quota_since is not null
  returning gaps_until as "gapsUntil"`

/**
 * Records that sessions of an issuer over its quota, which expire up to `until`, may be refused.
 *
 * @returns the latest recorded time, or null if the issuer is within its quota. Then its sessions must not be refused.
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
 * Records that sessions of an issuer, which expire up to `until`, may be refused because the event log is full. The first gap of
 * an issuer changes the registry, so that every plan after a refusal knows of the gap.
 *
 * @returns the latest recorded time.
 */
export async function noteBacklogGaps(
  db: Database,
  { iss, until }: { iss: Issuer; until: Date },
): Promise<Date> {
  const values = [iss, until]
  const extended = await db.query<{ gapsUntil: Date }>({ name: 'extend_gaps', text: EXTEND_GAPS, values })
  if (extended.rows[0] !== undefined) return extended.rows[0].gapsUntil
  return withTransaction(db, async (transaction) => {
    // Locks the row before the registry, in the same order as the bookkeeper.
    const { rows } = await transaction.query<{ gapsUntil: Date }>({ text: OPEN_GAPS, values })
    await lockRegistry(transaction)
    await bumpRegistry(transaction)
    return rows[0]?.gapsUntil ?? until
  })
}

/** The number of indexed sessions of one issuer. */
export interface SessionCount {
  readonly iss: Issuer
  /** Short name; null if no issuer is registered with this `iss`. */
  readonly issuer: string | null
  /** Estimated from a sample if the index is large. */
  readonly sessions: number
  readonly quota: number
}

/** The result of one count. `over`, `within`: issuers that went over their quota, or came back within it, at this count. */
export interface QuotaRound {
  readonly counts: readonly SessionCount[]
  readonly over: readonly SessionCount[]
  readonly within: readonly SessionCount[]
}

/** Pages of each partition that a count reads. A smaller partition is counted exactly. */
const SAMPLE_PAGES = 128
/**
 * An issuer comes back within its quota below this share of it. The margin covers the error of a sample, which is a few percent.
 */
const WITHIN = 0.95

const PARTITION_PAGES = `
  select inhrelid::regclass::text as name, pg_relation_size(inhrelid) / current_setting('block_size')::bigint as pages
    from pg_inherits where inhparent = 'sessions'::regclass order by inhrelid`

// The partition's name comes quoted from the catalogue and cannot be a parameter.
const sampleOf = (partition: string) =>
  `select issuer, count(*) as rows from ${partition} tablesample system ($1) group by issuer`

/** Counts the rows of the index by the number of their issuer. */
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

// Counts that hardly changed are not written. With thousands of issuers they would be thousands of rows each time.
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
// Checks the time again, because ingest may have recorded a later gap since the issuers were read.
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
 * Counts the sessions of each issuer. Marks issuers that went over their quota and notifies operators. Unmarks issuers that are
 * within their quota again. Only one bookkeeper at a time does so.
 *
 * @param quota the quota of issuers without one of their own.
 * @returns null if another bookkeeper is counting. `counts` leaves out issuers below half of their quota.
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
      values: [[...sessions.keys()], [...sessions.values()].map((number) => Math.round(number))],
    })
    const found = await readCounts(transaction, quota)
    const over = found.filter((count) => !count.over && count.sessions > count.quota)
    const within = found.filter((count) => count.over && count.sessions <= count.quota * WITHIN)
    const healed = found.filter((count) => count.healed)
    if (over.length + within.length + healed.length > 0) {
      await lockRegistry(transaction)
      const issOf = (some: readonly SessionCount[]) => [some.map(({ iss }) => iss)]
      await transaction.query(MARK, issOf(over))
      await transaction.query(UNMARK, issOf(within))
      await transaction.query(HEAL, issOf(healed.filter((count) => !over.includes(count))))
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
          `The session index has about ${sessions} sessions of ${iss}; its quota is ${quota}. New sessions are refused with 429, and logouts of the issuer are planned as if its session_index were partial.`,
      ),
      over.map(
        () =>
          'Make sure that the IdP posts sessions with their real expires_at, and posts session ends. If the issuer needs more sessions, raise its quotas.sessions.',
      ),
    ],
  })
}
