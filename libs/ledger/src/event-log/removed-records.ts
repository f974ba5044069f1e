import type { LogFault } from '@curfew/domain'
import type { Queryable } from '../postgres/database.ts'

// A process that ends right after its report reports the same gap again. While the first notification still waits, `greatest`
// keeps the records from counting twice.
const NOTICE_REMOVED = `
  with given (lane, partition, first, next) as (values ($1::text, $2::text, $3::bigint, $4::bigint)),
  added as (
    update notifications n
       set data = n.data || jsonb_build_object(
             'records', (n.data ->> 'records')::bigint + greatest(0, g.next - greatest(g.first, (n.data ->> 'next')::bigint)),
             'next', greatest(g.next, (n.data ->> 'next')::bigint))
      from given g
     where n.type = 'record.removed' and n.data ->> 'lane' = g.lane and n.data ->> 'partition' = g.partition
       and n.fanned_out_at is null and n.ready_at > clock_timestamp()
    returning n.id
  )
  insert into notifications (type, ready_at, data)
  select 'record.removed', clock_timestamp() + make_interval(secs => $5::float8 / 1000),
         jsonb_build_object('lane', lane, 'partition', partition, 'records', next - first, 'first', first, 'next', next)
    from given where not exists (select from added)`

/** How long a notification waits for more records of its partition, in milliseconds. */
const WINDOW_MS = 60_000

/**
 * Writes notifications of records that the event log removed unread, one for each partition and minute.
 *
 * @throws {LedgerUnavailableError}
 */
export async function noticeRemoved(
  db: Queryable,
  { lane, partition, from, to }: Omit<LogFault, 'kind'>,
): Promise<void> {
  await db.query({
    name: 'notice_removed',
    text: NOTICE_REMOVED,
    values: [lane, partition, from, to, WINDOW_MS],
  })
}
