import { type Database, withTransaction } from '../postgres/database.ts'
import { tryLock } from '../postgres/locks.ts'

// The same rules as `signingKey` and `nextKey` in the domain decide which key signs and which follows.
const NOTICE_EXPIRING = `
  with following as (
    select distinct on (issuer, algorithm) * from signing_keys
     where retired_at is null and signs_from > $1 order by issuer, algorithm, signs_from
  ),
  ending as (
    select distinct on (k.issuer, k.algorithm) k.issuer, k.algorithm, k.kid, f.kid as next_kid, f.signs_from
      from following f
      join signing_keys k on k.issuer = f.issuer and k.algorithm = f.algorithm
       and k.retired_at is null and k.signs_from <= $1
     where f.signs_from <= $1::timestamptz + make_interval(secs => $2::float8 / 1000)
     order by k.issuer, k.algorithm, k.signs_from desc
  )
  insert into notifications (type, issuer, data)
  select 'key.expiring', e.issuer,
         jsonb_build_object('issuer', e.issuer, 'algorithm', e.algorithm, 'kid', e.kid, 'next_kid', e.next_kid,
           'signs_until', to_char(e.signs_from at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))
    from ending e
   where not exists (
     select from notifications n
      where n.type = 'key.expiring' and n.issuer = e.issuer and n.data ->> 'kid' = e.kid
        and n.data ->> 'next_kid' = e.next_kid)`

/**
 * Writes a notification for each signing key that another key will soon replace, because the IdP must publish that key before.
 * Each replacement has one notification, regardless of the number of bookkeepers.
 *
 * @param withinMs how soon, in milliseconds.
 * @returns the number of notifications.
 */
export async function noticeExpiringKeys(
  db: Database,
  { now, withinMs }: { now: Date; withinMs: number },
): Promise<number> {
  return withTransaction(db, async (transaction) => {
    if (!(await tryLock(transaction, 'keyExpiry'))) return 0
    const { rowCount } = await transaction.query({
      name: 'notice_expiring_keys',
      text: NOTICE_EXPIRING,
      values: [now, withinMs],
    })
    return rowCount ?? 0
  })
}
