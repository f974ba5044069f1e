import {
  type ClientId,
  isToBeHalved,
  LIFETIME_BUCKETS,
  type Lifetimes,
  lifetimeBucket,
  overlongAfterMs,
  type Session,
} from '@curfew/domain'
import { mergedNotifications, NAMED_MAX } from '../notify/merged.ts'
import { plainArray, plainColumn } from '../postgres/arrays.ts'
import { type Database, type Queryable, withTransaction } from '../postgres/database.ts'
import { tryLock } from '../postgres/locks.ts'

// Lifetimes of ended sessions, and the number of live sessions that are overlong by them. Only registered clients have a row, so
// that their number bounds the table.

/** The lifetimes of some ended sessions, by client. */
export type LifetimeTally = Map<
  string,
  { readonly issuer: number; readonly clientId: ClientId; readonly lifetimes: number[] }
>

export function createTally(): LifetimeTally {
  return new Map()
}

/** Adds the lifetime of a session that ended at `endedAt`, if it says anything about normal lifetimes. */
export function addLifetime(
  tally: LifetimeTally,
  session: Pick<Session, 'clientId' | 'startedAt' | 'expiresAt'> & { readonly issuer: number },
  endedAt: Date,
): void {
  const bucket = lifetimeBucket(session, endedAt)
  if (bucket === null) return
  const { issuer, clientId } = session
  const key = `${issuer} ${clientId}`
  const { lifetimes } = tally.get(key) ?? { lifetimes: Array.from({ length: LIFETIME_BUCKETS }, () => 0) }
  lifetimes[bucket] = (lifetimes[bucket] ?? 0) + 1
  tally.set(key, { issuer, clientId, lifetimes })
}

const RECORD = `
  insert into session_lifetimes as l (relying_party_id, lifetimes)
  select p.id, g.lifetimes::real[]
    from unnest($1::int[], $2::text[], $3::text[]) as g(issuer, client_id, lifetimes)
    join session_issuers x on x.id = g.issuer
    join issuers i on i.iss = x.iss and i.deleted_at is null
    join relying_parties p on p.issuer = i.name and p.client_id = g.client_id and p.deleted_at is null
   order by p.id
  on conflict (relying_party_id) do update
     set lifetimes = (
       select array_agg(old + new order by place)
         from unnest(l.lifetimes, excluded.lifetimes) with ordinality as n(old, new, place))`

/**
 * Adds ended sessions to the lifetimes of their clients: one statement, whatever their number.
 *
 * Call it outside of a transaction, or last in a projector. A transaction that waits for a row here would otherwise hold locks on
 * sessions that the owner of the row waits for.
 */
export async function recordLifetimes(db: Queryable, tally: LifetimeTally): Promise<void> {
  if (tally.size === 0) return
  const clients = [...tally.values()]
  const values = [
    plainArray(clients.map(({ issuer }) => issuer)),
    clients.map(({ clientId }) => clientId),
    clients.map(({ lifetimes }) => plainArray(lifetimes)),
  ]
  await db.query({ name: 'record_lifetimes', text: RECORD, values })
}

const RECORD_EXPIRIES = `
  update session_lifetimes l set expiries = l.expiries + g.count
    from unnest($1::int[], $2::text[], $3::int[]) as g(issuer, client_id, count)
    join session_issuers x on x.id = g.issuer
    join issuers i on i.iss = x.iss and i.deleted_at is null
    join relying_parties p on p.issuer = i.name and p.client_id = g.client_id and p.deleted_at is null
   where l.relying_party_id = p.id`

/** The number of sessions of one client that ran into their own end. */
export interface Expiries {
  /** The number of the issuer in the index. */
  readonly issuer: number
  readonly clientId: ClientId
  readonly count: number
}

/** Counts expired sessions of clients that have lifetimes. A client without any has no limit. Call it outside of a transaction. */
export async function recordExpiries(db: Queryable, expiries: readonly Expiries[]): Promise<void> {
  if (expiries.length === 0) return
  const values = [
    plainArray(expiries.map(({ issuer }) => issuer)),
    expiries.map(({ clientId }) => clientId),
    plainArray(expiries.map(({ count }) => count)),
  ]
  await db.query({ name: 'record_expiries', text: RECORD_EXPIRIES, values })
}

const FORGET_REMOVED = `
  delete from session_lifetimes l using relying_parties p
   where p.id = l.relying_party_id and p.deleted_at is not null`

const DUE = `
  select l.relying_party_id as id, l.lifetimes, l.expiries
    from session_lifetimes l
   where l.counted_at is null or l.counted_at <= now() - make_interval(secs => $1::float8 / 1000)
   order by l.counted_at nulls first, l.relying_party_id
   limit $2`

/** The most overlong sessions that are counted of one client. */
const COUNTED_MAX = 1_000

// One range of an index in each partition for each client. The inner limit bounds the rows that are read. A session that has
// expired is about to be deleted.
const COUNT = `
  select g.id, c.count
    from unnest($1::bigint[], $2::bigint[]) as g(id, after_ms)
    join relying_parties p on p.id = g.id
    join issuers i on i.name = p.issuer
    join session_issuers x on x.iss = i.iss
    cross join lateral (
      select count(*) as count
        from (
          select s.expires_at from sessions s
           where s.issuer = x.id and s.client_id = p.client_id
             and s.started_at < now() - make_interval(secs => g.after_ms::float8 / 1000)
           limit ${COUNTED_MAX}
        ) s
       where s.expires_at > now()
    ) c`

/** The time for which a client has to be without overlong sessions before operators are notified of it again. */
const QUIET = "interval '1 day'"

const WRITE = `
  with counted as (
    update session_lifetimes l
       set overlong_after_ms = g.after_ms, overlong = g.overlong, counted_at = now(),
           notified_at = case when g.overlong > 0 then coalesce(l.notified_at, now())
             when l.notified_at > now() - ${QUIET} then l.notified_at end,
           lifetimes = case when g.halved
             then (select array_agg(count / 2 order by place) from unnest(l.lifetimes) with ordinality as n(count, place))
             else l.lifetimes end,
           expiries = case when g.halved then l.expiries / 2 else l.expiries end
      from unnest($1::bigint[], $2::int[], $3::boolean[], $4::bigint[]) as g(id, overlong, halved, after_ms)
     where l.relying_party_id = g.id
    returning l.relying_party_id as id, l.overlong, l.notified_at
  ),
  fresh as (
    select p.issuer, null::bigint as binding_id, sum(w.overlong) as count, now() as oldest, now() as newest,
           (array_agg(p.client_id order by w.overlong desc))[1:${NAMED_MAX}] as named,
           jsonb_build_object('issuer', p.issuer, 'iss', i.iss) as members
      from counted w
      join relying_parties p on p.id = w.id
      join issuers i on i.name = p.issuer
     where w.overlong > 0 and w.notified_at = now()
     group by p.issuer, i.iss
  ),
  ${mergedNotifications({ type: 'session.overlong', list: 'client_ids', windowMs: '$5' })}
  select issuer, count from fresh`

interface CountedOverlong {
  /** The number of clients that were counted. */
  readonly clients: number
  /** The issuers of which operators are notified, with the number of overlong sessions. */
  readonly noticed: readonly { readonly issuer: string; readonly count: number }[]
}

/**
 * Decides from which age on the sessions of some clients are overlong, counts those sessions up to a thousand for each client, and writes
 * notifications: one for each issuer and window. The clients that were counted the longest ago come first. Only one bookkeeper at a time
 * does so.
 *
 * @param limit most clients.
 * @param ageMs clients that were counted within this time are left out.
 * @param windowMs how long a notification waits for more clients before it is sent.
 */
export async function countOverlong(
  db: Database,
  { limit, ageMs, windowMs }: { limit: number; ageMs: number; windowMs: number },
): Promise<CountedOverlong> {
  return withTransaction(db, async (transaction) => {
    if (!(await tryLock(transaction, 'lifetimes'))) return { clients: 0, noticed: [] }
    const { rows: due } = await transaction.query<{ id: number; lifetimes: Lifetimes; expiries: number }>({
      name: 'due_lifetimes',
      text: DUE,
      values: [ageMs, limit],
    })
    if (due.length < limit) await transaction.query({ name: 'forget_lifetimes', text: FORGET_REMOVED })
    const clients = due.map(({ id, lifetimes, expiries }) => ({
      ...{ id, afterMs: overlongAfterMs(lifetimes, expiries), halved: isToBeHalved(lifetimes, expiries) },
    }))
    const limited = clients.filter(({ afterMs }) => afterMs !== null)
    const { rows: counts } = await transaction.query<{ id: number; count: number }>({
      text: COUNT,
      values: [plainArray(limited.map(({ id }) => id)), plainColumn(limited.map(({ afterMs }) => afterMs))],
    })
    const overlong = new Map(counts.map(({ id, count }) => [id, count]))
    const { rows: noticed } = await transaction.query<{ issuer: string; count: number }>({
      text: WRITE,
      values: [
        plainArray(clients.map(({ id }) => id)),
        plainArray(clients.map(({ id }) => overlong.get(id) ?? 0)),
        plainArray(clients.map(({ halved }) => halved)),
        plainColumn(clients.map(({ afterMs }) => afterMs)),
        windowMs,
      ],
    })
    return { clients: clients.length, noticed }
  })
}

const WORST = `
  select p.issuer, p.client_id as "clientId", l.overlong as sessions
    from session_lifetimes l join relying_parties p on p.id = l.relying_party_id
   where l.overlong > 0 and p.deleted_at is null
   order by l.overlong desc, p.id limit $1`

/** The clients with the most overlong sessions, as last counted: at most a thousand of each. */
export async function worstOverlong(
  db: Database,
  { limit }: { limit: number },
): Promise<readonly { readonly issuer: string; readonly clientId: string; readonly sessions: number }[]> {
  const { rows } = await db.query<{ issuer: string; clientId: string; sessions: number }>({
    name: 'worst_overlong',
    text: WORST,
    values: [limit],
  })
  return rows
}
