import { type Database, withTransaction } from '../postgres/database.ts'
import { tryLock } from '../postgres/locks.ts'

// How operators learn of quarantined records.

/** Ids that a notification names, of all that it counts. */
const IDS_IN_NOTIFICATION = 5

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
    select n.iss, i.name as issuer, n.kind, count(*) as count, min(n.at) as oldest, max(n.at) as newest,
           (array_agg(n.id::text order by n.id))[1:${IDS_IN_NOTIFICATION}] as ids
      from noticed n left join issuers i on i.iss = n.iss and i.deleted_at is null
     group by n.iss, i.name, n.kind
  ),
  added as (
    update notifications n
       set data = n.data || jsonb_build_object(
             'count', (n.data ->> 'count')::bigint + f.count,
             'oldest', to_jsonb(least((n.data ->> 'oldest')::timestamptz, f.oldest)),
             'newest', to_jsonb(greatest((n.data ->> 'newest')::timestamptz, f.newest)),
             'record_ids', jsonb_path_query_array(n.data -> 'record_ids' || to_jsonb(f.ids),
               '$[0 to ${IDS_IN_NOTIFICATION - 1}]'))
      from fresh f
     where n.type = 'record.quarantined' and n.data ->> 'iss' is not distinct from f.iss and n.data ->> 'kind' = f.kind
       and n.fanned_out_at is null and n.ready_at > clock_timestamp()
    returning f.iss, f.kind
  ),
  written as (
    insert into notifications (type, issuer, occurred_at, ready_at, data)
    select 'record.quarantined', f.issuer, f.oldest, clock_timestamp() + make_interval(secs => $2::float8 / 1000),
           jsonb_build_object('issuer', f.issuer, 'iss', f.iss, 'kind', f.kind, 'count', f.count,
             'oldest', f.oldest, 'newest', f.newest, 'record_ids', f.ids)
      from fresh f
     where not exists (select from added a where a.iss is not distinct from f.iss and a.kind = f.kind)
  )
  select lane, count(*) as count from noticed group by lane`

/**
 * Writes a notification of the quarantined records that have none, one for each issuer, kind and window. Bookkeepers that look at the
 * same time find nothing to do.
 *
 * @param limit most records. @param windowMs how long a notification waits for more of its kind before it is sent.
 * @returns how many records it was, by lane.
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

/** How many records wait for a person, by lane. Lanes without any are left out. */
export async function countQuarantined(db: Database): Promise<ReadonlyMap<string, number>> {
  const { rows } = await db.query<{ lane: string; count: number }>({
    name: 'count_quarantined',
    text: COUNT_QUARANTINED,
  })
  return new Map(rows.map(({ lane, count }) => [lane, count]))
}
