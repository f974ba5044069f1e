import type { Database } from '../postgres/database.ts'

// What has expired is deleted partition by partition, from the oldest on, and never waits for anybody: a row that is just
// being changed is left for the next time.

/** A partition of either table. */
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

// By the database's clock too, as lookups have it: what a bookkeeper deletes whose clock is ahead is told nobody of any more.
// What the batch before deleted lies dead at the low end of the index until vacuum comes: each batch begins where that ended.
// Its name comes from the catalogue, quoted, and cannot be a parameter.
const expireFrom = (partition: SessionPartition) => `
  with gone as (
    delete from ${partition} where ctid = any(array(
      select ctid from ${partition}
       where expires_at <= least($1::timestamptz, now()) and expires_at >= $2
       order by expires_at limit $3
         for update skip locked))
    returning expires_at
  )
  select count(*) as deleted, max(expires_at) as until from gone`

/**
 * Deletes sessions of one partition that ended by themselves at or before `before`, one batch.
 *
 * @param from the `until` of the batch before; null begins.
 * @param limit most rows.
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
  const { rows } = await db.query<{ deleted: number; until: Date | null }>({
    text: expireFrom(partition),
    values: [before, from ?? '-infinity', limit],
  })
  return rows[0] ?? { deleted: 0, until: null }
}
