import type { ClientId, EventId, Sid, Subject } from '@curfew/domain'
import { plainArray } from '../postgres/arrays.ts'
import type { Queryable } from '../postgres/database.ts'

/** The key of a row of the index. */
export interface SessionKey {
  readonly issuer: number
  readonly sub: Subject
  readonly sid: Sid
  readonly clientId: ClientId
}

/** A session that the event `by` covers. `orphaned`: the deliveries of that event have failed. */
export interface CoveredSession extends SessionKey {
  readonly by: EventId
  readonly orphaned: boolean
}

/** A session that ended and began again. `stillCovered`: the logout that covers it came after the new beginning. */
export interface RestartedSession extends SessionKey {
  readonly stillCovered: boolean
}

// All changes of sessions lock rows in this order, and rows of `sessions` before those of `session_ids`, so that they cannot
// deadlock. Not prepared by name: a plan for this number of rows and the current size of the tables uses lookups in one partition
// each.
export const LOCKED = `
  locked as (
    select g.* from (select * from given order by issuer, sub, sid, client_id) g
      cross join lateral (
        select from sessions s
         where s.issuer = g.issuer and s.sub = g.sub and s.sid = g.sid and s.client_id = g.client_id
           for update
      ) s
  )`
const SAME = 's.issuer = l.issuer and s.sub = l.sub and s.sid = l.sid and s.client_id = l.client_id'

const COVER_SESSIONS = `
  with given as (
    select * from unnest($1::int[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::boolean[])
      as g(issuer, sub, sid, client_id, by, orphaned)
  ),
  ${LOCKED}
  update sessions s
     set logout_event_id = l.by,
         orphaned_at = case when l.orphaned then
           case when s.logout_event_id = l.by then coalesce(s.orphaned_at, now()) else now() end end
    from locked l
   where ${SAME}
     and (s.logout_event_id is distinct from l.by or (s.orphaned_at is not null) <> l.orphaned)`

const FORGET_SESSIONS = `
  with given as (
    select * from unnest($1::int[], $2::text[], $3::text[], $4::text[]) as g(issuer, sub, sid, client_id)
  ),
  ${LOCKED},
  gone as (
    delete from sessions s using locked l where ${SAME} returning s.issuer, s.sid, s.client_id, s.sub
  ),
  locked_ids as (
    select g.* from (select * from gone order by issuer, sid, client_id, sub) g
      cross join lateral (
        select from session_ids s
         where s.issuer = g.issuer and s.sid = g.sid and s.client_id = g.client_id and s.sub = g.sub
           for update
      ) s
  )
  delete from session_ids s using locked_ids l where ${SAME}`

const RESTART_SESSIONS = `
  with given as (
    select * from unnest($1::int[], $2::text[], $3::text[], $4::text[], $5::boolean[])
      as g(issuer, sub, sid, client_id, covered)
  ),
  ${LOCKED},
  begun_again as (
    update sessions s
       set started_at = s.restarted_at, started_stated = s.restarted_stated, accepted_at = s.restarted_accepted_at,
           restarted_at = null, restarted_stated = null, restarted_accepted_at = null,
           logout_event_id = case when l.covered then s.logout_event_id end,
           orphaned_at = case when l.covered then s.orphaned_at end
      from locked l
     where ${SAME} and s.restarted_at is not null
    returning s.issuer, s.sub, s.sid, s.client_id, s.started_at
  )
  update session_ids s set started_at = l.started_at from begun_again l where ${SAME}`

const FORGET_TOKENS = `
  with given as (
    select * from unnest($1::int[], $2::text[], $3::text[], $4::text[]) as g(issuer, sub, sid, client_id)
  ),
  ${LOCKED}
  update sessions s set sealed_tokens = null from locked l where ${SAME} and s.sealed_tokens is not null`

/**
 * Records in the index which sessions a logout covers and which began again. Deletes those that are over, and the tokens of those
 * whose tokens are revoked.
 */
export async function changeSessions(
  transaction: Queryable,
  {
    over,
    revoked,
    restarted,
    covered,
  }: {
    over: readonly SessionKey[]
    revoked: readonly SessionKey[]
    restarted: readonly RestartedSession[]
    covered: readonly CoveredSession[]
  },
): Promise<void> {
  if (restarted.length > 0) {
    const still = plainArray(restarted.map((session) => session.stillCovered))
    await transaction.query({ text: RESTART_SESSIONS, values: [...keysOf(restarted), still] })
  }
  if (covered.length > 0) {
    const marks = [
      plainArray(covered.map(({ by }) => by)),
      plainArray(covered.map(({ orphaned }) => orphaned)),
    ]
    await transaction.query({ text: COVER_SESSIONS, values: [...keysOf(covered), ...marks] })
  }
  if (revoked.length > 0) await transaction.query({ text: FORGET_TOKENS, values: keysOf(revoked) })
  if (over.length > 0) await transaction.query({ text: FORGET_SESSIONS, values: keysOf(over) })
}

/** The columns of session keys, for `unnest`. */
export function keysOf(sessions: readonly SessionKey[]): readonly unknown[] {
  return [
    plainArray(sessions.map(({ issuer }) => issuer)),
    sessions.map(({ sub }) => sub),
    sessions.map(({ sid }) => sid),
    sessions.map(({ clientId }) => clientId),
  ]
}
