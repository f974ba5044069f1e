import type { BindingId, WorkerId } from '@curfew/domain'
import { plainArray } from '../postgres/arrays.ts'
import { type Database, withTransaction } from '../postgres/database.ts'
import { tryLock } from '../postgres/locks.ts'

// If one worker got an answer, the binding counts as available for all workers: the reports of the others are deleted, too. A
// worker that still cannot reach the binding reports it again at its next probe.
const NOTE_BREAKERS = `
  with me as (select id from workers where id = $1 for key share),
  answered as (delete from breakers where binding_id = any($3::bigint[])),
  noticed as (
    update breaker_notices
       set answered_at = case when binding_id = any($3::bigint[]) then now() end
     where binding_id = any($2::bigint[] || $3::bigint[]) and closed_at is null
       and (answered_at is null) = (binding_id = any($3::bigint[]))
  )
  insert into breakers (binding_id, worker_id)
  select opened.id, me.id from unnest($2::bigint[]) as opened(id) cross join me
  on conflict do nothing`

/**
 * Records the bindings that a worker found unavailable, and those that answered it again. No binding may be in both lists.
 * If the worker was declared dead, only the answers are recorded.
 */
export async function noteBreakers(
  db: Database,
  {
    workerId,
    opened,
    closed,
  }: { workerId: WorkerId; opened: readonly BindingId[]; closed: readonly BindingId[] },
): Promise<void> {
  await db.query({
    name: 'note_breakers',
    text: NOTE_BREAKERS,
    values: [workerId, plainArray(opened), plainArray(closed)],
  })
}

const PARTY = `
    join bindings b on b.id = n.binding_id
    join relying_parties p on p.id = b.relying_party_id`

const NOTICE_OPENED = `
  with unavailable as (select binding_id, min(opened_at) as since from breakers group by binding_id),
  noticed as (
    insert into breaker_notices as n (binding_id, opened_at)
    select unavailable.binding_id, now() from unavailable
     where not exists (
       select from breaker_notices o
        where o.binding_id = unavailable.binding_id
          and (o.closed_at is null or o.opened_at > now() - make_interval(secs => $1::float8 / 1000)))
    on conflict (binding_id) do update set opened_at = now(), closed_at = null, answered_at = null, left_at = null
    returning binding_id
  )
  insert into notifications (type, issuer, binding_id, occurred_at, data)
  select 'relying_party.breaker_opened', p.issuer, n.binding_id, unavailable.since,
         jsonb_build_object('issuer', p.issuer, 'client_id', p.client_id, 'channel', b.kind, 'endpoint', b.endpoint)
    from noticed n join unavailable using (binding_id) ${PARTY}`

const NOTE_LEFT = `
  update breaker_notices n set left_at = case when n.left_at is null then now() end
   where n.closed_at is null
     and (n.left_at is null) = (not exists (select from breakers where binding_id = n.binding_id))`

const NOTICE_CLOSED = `
  with noticed as (
    update breaker_notices n set closed_at = now()
     where n.closed_at is null and not exists (select from breakers where binding_id = n.binding_id)
       and (n.answered_at is not null or n.left_at <= now() - make_interval(secs => $1::float8 / 1000))
    returning n.binding_id, n.opened_at, n.answered_at
  )
  insert into notifications (type, issuer, binding_id, occurred_at, data)
  select 'relying_party.breaker_closed', p.issuer, n.binding_id, coalesce(n.answered_at, now()),
         jsonb_build_object('issuer', p.issuer, 'client_id', p.client_id, 'channel', b.kind, 'endpoint', b.endpoint,
           'because', case when n.answered_at is null then 'unattended' else 'answered' end)
    from noticed n ${PARTY}`

/**
 * Compares the workers' breakers with the notifications that operators have got, and writes the missing notifications.
 *
 * @param quietMs the shortest time between two `opened` notifications of one binding, in milliseconds. A breaker that opens sooner
 * is notified when this time has passed, if it is still open. A breaker that no worker has open counts as closed at once after an
 * answer, otherwise after this time.
 * @returns the number of notifications written.
 */
export async function noticeBreakers(db: Database, { quietMs }: { quietMs: number }): Promise<number> {
  return withTransaction(db, async (transaction) => {
    if (!(await tryLock(transaction, 'breakers'))) return 0
    const run = (name: string, text: string, values: readonly unknown[]) =>
      transaction.query({ name, text, values })
    const opened = await run('notice_opened', NOTICE_OPENED, [quietMs])
    await run('note_left', NOTE_LEFT, [])
    const closed = await run('notice_closed', NOTICE_CLOSED, [quietMs])
    return (opened.rowCount ?? 0) + (closed.rowCount ?? 0)
  })
}
