import type { Database } from '../postgres/database.ts'
import { type Expiries, recordExpiries } from './lifetimes.ts'

// Expired sessions are deleted partition by partition, oldest first. The deletion never waits for a lock: a row that another
// transaction is changing is left for the next time.

/** The name of a partition of `sessions` or `session_ids`. */
export type SessionPartition = string & { readonly partition: unique symbol }

const LIST_PARTITIONS = `
  select inhrelid::regclass::text as name from pg_inherits
   where inhparent in ('sessions'::regclass, 'session_ids'::regclass) order by inhrelid`

/** Every partition of the session index. */
export async function listSessionPartitions(db: Database): Promise<readonly SessionPartition[]> {
  const { rows } = await db.query<{ name: SessionPartition }>({
    name: 'list_session_partitions',
    text: LIST_PARTITIONS,
  })
  return rows.map(({ name }) => name)
}

// A session must also have expired by the database's clock, which lookups use. A bookkeeper whose clock is ahead would otherwise
// delete live sessions, which then get no logout. Every batch begins where the one before ended, because until vacuum runs the
// index begins with dead entries. The partition's name comes quoted from the catalogue and cannot be a parameter.
const expireFrom = (partition: SessionPartition) => `
  with gone as (
    delete from ${partition} where ctid = any(array(
      select ctid from ${partition}
       where expires_at <= least($1::timestamptz, now()) and expires_at >= $2
       order by expires_at limit $3
         for update skip locked))
    returning issuer, client_id, expires_at
  )
  select issuer, client_id as "clientId", count(*) as count, max(expires_at) as until,
         (select inhparent = 'sessions'::regclass from pg_inherits where inhrelid = $4::regclass) as "ofSessions"
    from gone group by issuer, client_id`

interface ExpiredRow extends Expiries {
  readonly until: Date
  /** Whether the partition is one of `sessions`. `session_ids` has the same sessions again. */
  readonly ofSessions: boolean
}

/**
 * Deletes one batch of sessions of one partition that expired at or before `before`, and counts them for the lifetimes of their clients.
 *
 * @param from the `until` of the batch before; null for the first batch.
 * @param limit most rows of the batch.
 */
export async function expireSessions(
  db: Database,
  {
    partition,
    before,
    from,
    limit,
  }: { partition: SessionPartition; before: Date; from: Date | null; limit: number },
): Promise<{ readonly deleted: number; readonly until: Date | null }> {
  const { rows } = await db.query<ExpiredRow>({
    text: expireFrom(partition),
    values: [before, from ?? '-infinity', limit, partition],
  })
  await recordExpiries(
    db,
    rows.filter(({ ofSessions }) => ofSessions),
  )
  return {
    deleted: rows.reduce((sum, { count }) => sum + count, 0),
    until: rows.reduce<Date | null>((max, { until }) => (max === null || until > max ? until : max), null),
  }
}
