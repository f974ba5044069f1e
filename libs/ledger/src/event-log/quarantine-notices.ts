import { mergedNotifications, NAMED_MAX } from '../notify/merged.ts'
import { type Database, withTransaction } from '../postgres/database.ts'
import { tryLock } from '../postgres/locks.ts'

// Notifications and counts of quarantined records, for operators.

const NOTICE_QUARANTINED = `
  with noticed as (
    update quarantined_records q set noticed_at = now()
      from (
        select id from quarantined_records where noticed_at is null order by id limit $1 for update skip locked
      ) unnoticed
     where q.id = unnoticed.id
    returning q.id, q.lane, q.iss, q.kind, q.quarantined_at as at
  ),
  fresh as (
    select i.name as issuer, null::bigint as binding_id, count(*) as count, min(n.at) as oldest, max(n.at) as newest,
           (array_agg(n.id::text order by n.id))[1:${NAMED_MAX}] as named,
           jsonb_build_object('issuer', i.name, 'iss', n.iss, 'kind', n.kind) as members
      from noticed n left join issuers i on i.iss = n.iss and i.deleted_at is null
     group by n.iss, i.name, n.kind
  ),
  ${mergedNotifications({ type: 'record.quarantined', list: 'record_ids', windowMs: '$2' })}
  select lane, count(*) as count from noticed group by lane`

/**
 * Writes notifications of new quarantined records, one for each issuer, kind and window. Only one bookkeeper at a time does so.
 *
 * @param limit most records.
 * @param windowMs how long a notification waits for more records before it is sent.
 * @returns the number of noticed records by lane.
 */
export function noticeQuarantined(
  db: Database,
  { limit, windowMs }: { limit: number; windowMs: number },
): Promise<ReadonlyMap<string, number>> {
  return withTransaction(db, async (transaction) => {
    if (!(await tryLock(transaction, 'quarantine'))) return new Map()
    const { rows } = await transaction.query<{ lane: string; count: number }>({
      name: 'notice_quarantined',
      text: NOTICE_QUARANTINED,
      values: [limit, windowMs],
    })
    return new Map(rows.map(({ lane, count }) => [lane, count]))
  })
}

const COUNT_QUARANTINED = `
  select lane, count(*) as count from quarantined_records where state = 'waiting' group by lane`

/** Counts the records that wait for a person, by lane. Lanes without any are left out. */
export async function countQuarantined(db: Database): Promise<ReadonlyMap<string, number>> {
  const { rows } = await db.query<{ lane: string; count: number }>({
    name: 'count_quarantined',
    text: COUNT_QUARANTINED,
  })
  return new Map(rows.map(({ lane, count }) => [lane, count]))
}
