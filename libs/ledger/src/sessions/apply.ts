import type { ClientId, Issuer, SessionChanges } from '@curfew/domain'
import { plainArray, plainColumn, textColumn } from '../postgres/arrays.ts'
import { type Database, withTransaction } from '../postgres/database.ts'
import { type Columns, rowParameters } from '../postgres/parameters.ts'
import { bumpRegistry, lockRegistry } from '../registry/registry.ts'
import { addLifetime, createTally, recordLifetimes } from './lifetimes.ts'
import { endOf, NO_END } from './order.ts'

// Both statements lock rows of `sessions` in one order, and lock a row of `session_ids` only after its row of `sessions`. So
// concurrent changes of the same sessions cannot deadlock. Neither statement is prepared by name: a new plan for each batch fits
// the size of the tables, which grow from nothing to a hundred million rows.

const FIND_ISSUERS = 'select id, iss from session_issuers where iss = any($1::text[])'

const ADD_ISSUERS = `
  insert into session_issuers (iss) select iss from unnest($1::text[]) as given(iss) order by iss
  on conflict (iss) do nothing`

type StartRow = SessionChanges['starts'][number] & { readonly issuer: number | null }

const KEPT: Columns<StartRow> = {
  issuer: ['int', ({ issuer }) => issuer],
  sub: ['text', ({ sub }) => sub],
  sid: ['text', ({ sid }) => sid],
  client_id: ['text', ({ clientId }) => clientId],
  device: ['text', ({ device }) => device],
  email: ['text', ({ email }) => email ?? null],
  started_at: ['timestamptz', ({ startedAt }) => startedAt],
  restarted_at: ['timestamptz', ({ restarted }) => restarted?.startedAt ?? null],
  started_stated: ['boolean', ({ startedStated }) => startedStated],
  accepted_at: ['timestamptz', ({ acceptedAt }) => acceptedAt],
  restarted_stated: ['boolean', ({ restarted }) => restarted?.startedStated ?? null],
  restarted_accepted_at: ['timestamptz', ({ restarted }) => restarted?.acceptedAt ?? null],
  sealed_tokens: ['text', ({ sealedTokens }) => sealedTokens ?? null],
}
const NAMES = Object.keys(KEPT).join(', ')
const STARTS = rowParameters<StartRow>({
  ...KEPT,
  ends_at: ['timestamptz', ({ expiresAt }) => expiresAt],
  replaces_end: ['boolean', ({ replacesEnd = false }) => replacesEnd],
})

// The domain's `mergeStarts` explains the rule.
const END_AFTER = `
             case when s.expires_at = ${NO_END}
                    or (s.issuer, s.sub, s.sid, s.client_id) in (select issuer, sub, sid, client_id from given where replaces_end)
                  then excluded.expires_at else greatest(s.expires_at, excluded.expires_at) end`

// Sessions that have expired by the database's clock, which lookups use, are not inserted. Repeated starts write nothing. The
// second insert copies the rows as the first one stored them, so that both tables agree.
const START = `
  with given as (
    select ${NAMES}, coalesce(ends_at, ${NO_END}) as expires_at, replaces_end from ${STARTS.as('g')}
  ),
  started as (
    insert into sessions as s (${NAMES}, expires_at)
    select ${NAMES}, expires_at from given
     where expires_at > now()
     order by issuer, sub, sid, client_id
    on conflict (issuer, sub, sid, client_id) do update
       set started_at = least(s.started_at, excluded.started_at),
           started_stated = case when excluded.started_at < s.started_at then excluded.started_stated
             when excluded.started_at > s.started_at then s.started_stated else s.started_stated or excluded.started_stated end,
           accepted_at = least(s.accepted_at, excluded.accepted_at),
           (restarted_at, restarted_stated, restarted_accepted_at) = (
             select b.started_at, bool_or(b.stated), min(b.accepted_at) from (values
                 (s.started_at, s.started_stated, s.accepted_at),
                 (s.restarted_at, s.restarted_stated, s.restarted_accepted_at),
                 (excluded.started_at, excluded.started_stated, excluded.accepted_at),
                 (excluded.restarted_at, excluded.restarted_stated, excluded.restarted_accepted_at)
               ) b(started_at, stated, accepted_at)
              where b.started_at > least(s.started_at, excluded.started_at)
              group by b.started_at order by b.started_at desc limit 1),
           expires_at = ${END_AFTER},
           device = coalesce(excluded.device, s.device),
           email = coalesce(excluded.email, s.email),
           sealed_tokens = coalesce(excluded.sealed_tokens, s.sealed_tokens)
     where s.started_at > excluded.started_at
        or greatest(excluded.started_at, excluded.restarted_at) > coalesce(s.restarted_at, s.started_at)
        or s.accepted_at > excluded.accepted_at
        or s.expires_at <> ${END_AFTER}
        or excluded.device is distinct from s.device and excluded.device is not null
        or excluded.email is distinct from s.email and excluded.email is not null
        or excluded.sealed_tokens <> coalesce(s.sealed_tokens, '')
    returning issuer, sid, client_id, sub, email, started_at, expires_at
  )
  insert into session_ids (issuer, sid, client_id, sub, email, started_at, expires_at)
  select issuer, sid, client_id, sub, email, started_at, expires_at from started
  on conflict (issuer, sid, client_id, sub) do update
     set email = excluded.email, started_at = excluded.started_at, expires_at = excluded.expires_at`

// The lateral lookups make one index scan of one partition for each session, never a join of whole tables. They run row by row in
// the order of `found`, which is therefore the order of the locks.
const END = `
  with given as (
    select * from unnest($1::int[], $2::text[], $3::text[], $4::timestamptz[]) as g(issuer, sid, client_id, ended_at)
  ),
  found as (
    select i.issuer, i.sub, i.sid, i.client_id, coalesce(min(g.ended_at), now()) as ended_at
      from given g
      cross join lateral (
        select issuer, sub, sid, client_id from session_ids
         where issuer = g.issuer and sid = g.sid and (g.client_id is null or client_id = g.client_id)
        offset 0
      ) i
     group by 1, 2, 3, 4
     order by 1, 2, 3, 4
  ),
  locked as (
    select f.* from found f
      cross join lateral (
        select from sessions s
         where s.issuer = f.issuer and s.sub = f.sub and s.sid = f.sid and s.client_id = f.client_id
           for update
      ) s
  ),
  ended as (
    delete from sessions s using locked l
     where s.issuer = l.issuer and s.sub = l.sub and s.sid = l.sid and s.client_id = l.client_id
    returning s.issuer, s.sid, s.client_id, s.sub, s.started_at, s.expires_at, l.ended_at
  ),
  forgotten as (
    delete from session_ids i using ended e
     where i.issuer = e.issuer and i.sid = e.sid and i.client_id = e.client_id and i.sub = e.sub
  )
  select e.issuer, e.client_id as "clientId", e.started_at as "startedAt", ${endOf('e')}, e.ended_at as "endedAt" from ended e`

interface EndedRow {
  readonly issuer: number
  readonly clientId: ClientId
  readonly startedAt: Date
  readonly expiresAt: Date | null
  readonly endedAt: Date
}

/**
 * Applies the session ends and then the session starts that IdPs posted. Idempotent.
 *
 * A session that is posted again keeps its earliest start, and its end follows `mergeStarts`. It also keeps the state of its logout. Once
 * that logout is done, its latest start counts. The first session of an issuer adds the issuer to the index. That changes the
 * registry; otherwise the registry is not locked.
 *
 * @param changes as `netOf` returns them, with at most one start for each session of a client.
 */
export async function applySessions(db: Database, { ends, starts }: SessionChanges): Promise<void> {
  const issuers = await findIssuers(db, [...ends, ...starts])
  const missing = new Set(starts.map(({ iss }) => iss).filter((iss) => !issuers.has(iss)))
  if (missing.size > 0) {
    await addIssuers(db, [...missing])
    for (const [iss, id] of await findIssuers(db, starts)) issuers.set(iss, id)
  }
  const idOf = ({ iss }: { iss: Issuer }) => issuers.get(iss) ?? null
  // An issuer that the index does not know has no sessions to end.
  const known = ends.filter((end) => idOf(end) !== null)
  if (known.length > 0) {
    const { rows: ended } = await db.query<EndedRow>({
      text: END,
      values: [
        plainArray(known.map(idOf)),
        known.map(({ sid }) => sid),
        textColumn(known.map(({ clientId }) => clientId)),
        plainColumn(known.map(({ acceptedAt }) => acceptedAt ?? null)),
      ],
    })
    const tally = createTally()
    for (const row of ended) addLifetime(tally, row, row.endedAt)
    await recordLifetimes(db, tally)
  }
  if (starts.length === 0) return
  const rows = starts.map((start) => ({ ...start, issuer: idOf(start) }))
  await db.query({ text: START, values: STARTS.values(rows) })
}

/** The index's numbers of those issuers that it knows. */
async function findIssuers(
  db: Database,
  sessions: readonly { readonly iss: Issuer }[],
): Promise<Map<Issuer, number>> {
  const { rows } = await db.query<{ id: number; iss: Issuer }>({
    name: 'find_session_issuers',
    text: FIND_ISSUERS,
    values: [[...new Set(sessions.map(({ iss }) => iss))]],
  })
  return new Map(rows.map(({ id, iss }) => [iss, id]))
}

/** Adds issuers to the index. The changed registry makes workers plan again if they planned without these issuers. */
async function addIssuers(db: Database, issuers: readonly Issuer[]): Promise<void> {
  await withTransaction(db, async (transaction) => {
    await lockRegistry(transaction)
    const { rowCount } = await transaction.query({
      name: 'add_session_issuers',
      text: ADD_ISSUERS,
      values: [issuers],
    })
    if ((rowCount ?? 0) > 0) await bumpRegistry(transaction)
  })
}
