import type { BindingId, EventId, IssuerName } from '@curfew/domain'
import { deliveriesOf } from '../history/event-ranges.ts'
import type { Projector } from '../history/journal.ts'
import { plainArray } from '../postgres/arrays.ts'
import { type Database, type Queryable, withTransaction } from '../postgres/database.ts'

/** SQL: the key of an entry. @param kind `sid` or `sub`. */
const keyOf = (iss: string, kind: string, value: string) => `
  substr(sha256(convert_to(${iss}, 'UTF8') || '\\x00'::bytea || '${kind}'::bytea || '\\x00'::bytea
    || convert_to(${value}, 'UTF8') || '\\x00'::bytea), 1, 16)`

// Makes the entries of logouts. The deliveries of a logout name the sessions and the other names of its subject that the session index
// knew. A device logout of unknown sessions cuts off all tokens of the subject, because no token names a device.
const ADD_ENTRIES = `
  with owed as (
    select e.id, e.iss, e.sub, e.sid, e.scope, floor(extract(epoch from e.occurred_at))::bigint as before,
           i.max_token_ttl, i.widen_to_subject
      from events e
      join issuers i on i.iss = e.iss
     where e.id = any($1::uuid[]) and e.erased_at is null
  ),
  named as (
    select o.id, d.sid, d.sub
      from owed o
     cross join lateral (
       select w.sid, w.sub from deliveries w
        where w.id between ${deliveriesOf('o.id').lowest} and ${deliveriesOf('o.id').highest} and w.event_id = o.id
          and (w.sid is not null or w.sub is not null) offset 0
     ) d
  ),
  keys as (
    select id, ${keyOf('iss', 'sid', 'sid')} as key from owed where scope = 'session'
    union
    select o.id, ${keyOf('o.iss', 'sid', 'n.sid')} from owed o join named n using (id) where n.sid is not null
    union
    select id, ${keyOf('iss', 'sub', 'sub')} from owed
     where sub is not null
       and (scope = 'subject' or scope = 'session' and widen_to_subject
        or scope = 'device' and not exists (select from named n where n.id = owed.id and n.sid is not null))
    union
    select o.id, ${keyOf('o.iss', 'sub', 'n.sub')} from owed o join named n using (id)
     where n.sub is not null and (o.scope = 'subject' or o.scope = 'session' and o.widen_to_subject)
    union
    select id, null from owed where scope = 'issuer'
  ),
  fresh as (
    select o.iss, k.key, o.before, o.id, o.max_token_ttl,
           row_number() over (partition by o.iss order by o.before, o.id, k.key) as place,
           count(*) over (partition by o.iss) as total
      from keys k join owed o using (id)
  ),
  numbered as (
    insert into cutoff_feeds as f (iss, seq, added)
    select iss, floor(extract(epoch from clock_timestamp()) * 1000)::bigint + max(total), max(total) from fresh group by iss
     order by iss
    on conflict (iss) do update set seq = greatest(f.seq + excluded.added, excluded.seq), added = excluded.added
    returning iss, seq
  )
  insert into cutoffs (iss, seq, key, before, event_id, expires_at)
  select f.iss, n.seq - f.total + f.place, f.key, f.before, f.id, to_timestamp(f.before + f.max_token_ttl)
    from fresh f join numbered n using (iss)`

async function addEntries(transaction: Queryable, ids: readonly EventId[]): Promise<void> {
  await transaction.query({ name: 'add_cutoffs', text: ADD_ENTRIES, values: [plainArray(ids)] })
}

// The bindings that can name anything: those of resource servers.
const WHOLE = `
  select b.id from bindings b where b.id = any($1::bigint[]) and b.names = 'any'`

const EVENTS_OF = 'select distinct event_id as id from deliveries where id = any($1::uuid[])'

/**
 * Makes the entries of the planned logouts that are owed to a resource server. An issuer without a resource server has no feed, and a
 * logout of a user for named clients cuts off no others.
 */
export const projectCutoffs: Projector = async (transaction, entries) => {
  const owed = entries.flatMap((entry) => (entry.kind === 'planned' ? entry.owed : []))
  if (owed.length === 0) return
  const { rows } = await transaction.query<{ id: BindingId }>({
    name: 'whole_bindings',
    text: WHOLE,
    values: [plainArray([...new Set(owed.map(({ bindingId }) => bindingId))])],
  })
  if (rows.length === 0) return
  const whole = new Set(rows.map(({ id }) => id))
  const ids = owed.filter(({ bindingId }) => whole.has(bindingId)).map(({ id }) => id)
  const events = await transaction.query<{ id: EventId }>({
    name: 'cutoff_events',
    text: EVENTS_OF,
    values: [plainArray(ids)],
  })
  await addEntries(
    transaction,
    events.rows.map(({ id }) => id),
  )
}

// An issuer that gets its first resource server has no entries of its recent logouts, though their tokens live. Plans that are under way
// hold a lock on the events, so this waits for them: what they plan is found by the backfill, and a later plan knows the binding.
const LOCK_PLANS = 'lock table events in share mode'
const OPEN_FEED = `
  insert into cutoff_feeds (iss, seq, added, backfill_from)
  select i.iss, floor(extract(epoch from clock_timestamp()) * 1000)::bigint, 0, now() - make_interval(secs => i.max_token_ttl)
    from issuers i where i.name = $1
  on conflict (iss) do update set backfill_from = excluded.backfill_from`
const HAS_RESOURCE_SERVER = `
  select from relying_parties p join bindings b on b.relying_party_id = p.id and b.registered and b.names = 'any'
   where p.issuer = $1 and p.deleted_at is null limit 1`

/** Prepares the feed of an issuer whose first resource server the transaction registers. It must be called before it is registered. */
export async function openFeed(transaction: Queryable, issuer: IssuerName): Promise<void> {
  const known = await transaction.query({
    name: 'has_resource_server',
    text: HAS_RESOURCE_SERVER,
    values: [issuer],
  })
  if (known.rows.length > 0) return
  await transaction.query(LOCK_PLANS)
  await transaction.query({ name: 'open_cutoff_feed', text: OPEN_FEED, values: [issuer] })
}

const CLAIM_BACKFILL = `
  select iss, backfill_from as "from" from cutoff_feeds
   where backfill_from is not null order by iss limit 1 for update skip locked`
// A logout that is already in the feed is passed over. Those of before the time are in it.
const BACKFILL_PAGE = `
  select e.id, e.planned_at as "plannedAt" from events e
   where e.planned_at >= $2 and e.iss = $1 and e.erased_at is null and e.parent_id is null
     and (e.clients is null or e.relayed_for is not null or e.scope = 'session')
     and not exists (select from cutoffs c where c.event_id = e.id)
   order by e.planned_at, e.id limit $3`
const ADVANCE_BACKFILL = 'update cutoff_feeds set backfill_from = $2 where iss = $1'

/**
 * Adds recent logouts to a feed that was opened after them.
 *
 * @param limit most logouts.
 * @returns whether there may be more.
 */
export async function backfillCutoffs(db: Database, { limit }: { limit: number }): Promise<boolean> {
  return withTransaction(db, async (transaction) => {
    const feeds = await transaction.query<{ iss: string; from: Date }>({
      name: 'claim_cutoff_backfill',
      text: CLAIM_BACKFILL,
    })
    const [feed] = feeds.rows
    if (feed === undefined) return false
    // Not prepared by name: the cost depends on the number of recent events.
    const page = await transaction.query<{ id: EventId; plannedAt: Date }>(BACKFILL_PAGE, [
      feed.iss,
      feed.from,
      limit,
    ])
    await addEntries(
      transaction,
      page.rows.map(({ id }) => id),
    )
    const last = page.rows.length < limit ? null : (page.rows.at(-1)?.plannedAt ?? null)
    await transaction.query({
      name: 'advance_cutoff_backfill',
      text: ADVANCE_BACKFILL,
      values: [feed.iss, last],
    })
    return true
  })
}
