import type { EventId, LiveSession, LogoutEvent } from '@curfew/domain'
import { plainArray, textColumn } from '../postgres/arrays.ts'
import { type Database, type Queryable, withTransaction } from '../postgres/database.ts'
import { linkedSessions } from './linked.ts'
import { beginningOf, endOf } from './order.ts'

/** An event, and its issuer's number in the session index. */
export interface SessionQuestion {
  readonly event: LogoutEvent
  readonly issuer: number
  /** Whether the issuer has pairwise clients, so that its subjects may have other names. Default: it has none. */
  readonly pairwise?: boolean
}

/** Most sessions of one subject, or of one sid, that are planned separately. */
export const SESSIONS_MAX = 10_000
/** Longest wait for the index, in milliseconds. Without an answer, the logout is delivered to every registered RP. */
const TIMEOUT_MS = 1_000
// The server cancels the statement. If only we gave up, it would keep running and hold one more connection for each batch.
const LIMIT_TIME = `set local statement_timeout = ${TIMEOUT_MS}`
/** Longest wait for a server that does not answer at all, in milliseconds. */
const SILENCE_MS = 2 * TIMEOUT_MS

// The lateral lookup has both columns of the partition key, so that it is one index scan in one partition for each subject.
// Expired sessions that are not deleted yet do not count.
const SESSIONS_OF_SUBJECTS = `
  select g.place, s.*
    from unnest($1::int[], $2::text[]) with ordinality as g(issuer, sub, place)
    cross join lateral (
      select f.sub, f.sid, f.client_id as "clientId", f.device, f.email, ${beginningOf('f')}, ${endOf('f')}
        from sessions f
       where f.issuer = g.issuer and f.sub = g.sub and f.expires_at > now()
       limit ${SESSIONS_MAX + 1}
    ) s`

// A logout of a sid needs only the clients and subjects of the session. Device and time of acceptance are only in `sessions`.
const SESSIONS_OF_SIDS = `
  select g.place, s.*
    from unnest($1::int[], $2::text[]) with ordinality as g(issuer, sid, place)
    cross join lateral (
      select f.sub, f.sid, f.client_id as "clientId", null as device, f.email, f.started_at as "startedAt", true as "startedStated",
             f.started_at as "acceptedAt", ${endOf('f')}
        from session_ids f
       where f.issuer = g.issuer and f.sid = g.sid and f.expires_at > now()
       limit ${SESSIONS_MAX + 1}
    ) s`

const LINKED_SESSIONS = `
  select g.place, s.*, true as linked
    from unnest($1::int[], $2::text[], $3::text[], $4::text[], $5::text[]) with ordinality as g(issuer, sub, iss, sid, client, place)
    join issuers i on i.iss = g.iss and i.deleted_at is null
   cross join lateral (
     select * from (${linkedSessions(
       `f.sub, f.sid, f.client_id as "clientId", f.device, f.email, ${beginningOf('f')}, ${endOf('f')}`,
       {
         index: 'g.issuer',
         sub: 'g.sub',
         sid: 'g.sid',
         client: 'g.client',
         when: 'true',
         most: SESSIONS_MAX,
       },
     )}) f
      where f."expiresAt" > now() limit ${SESSIONS_MAX + 1}
   ) s`

interface SessionRow extends LiveSession {
  /** The number of the question, from 1. */
  readonly place: number
}

/**
 * Finds the indexed sessions that each event may end: those of its `sid` if its scope is a session, otherwise those of its
 * subject, also under the names that only pairwise clients know. An event with more than 10,000 sessions is left out.
 *
 * @throws {LedgerUnavailableError} when PostgreSQL is unavailable, or does not answer in time.
 * @throws {Error} with the SQLSTATE in `code`, when PostgreSQL refuses the statement.
 */
export async function findSessions(
  db: Database,
  questions: readonly SessionQuestion[],
): Promise<ReadonlyMap<EventId, readonly LiveSession[]>> {
  const bySid = questions.filter(({ event }) => event.scope === 'session')
  const bySub = questions.filter(({ event }) => event.scope !== 'session')
  const linked = bySub.filter(({ pairwise }) => pairwise === true)
  return withTransaction(db, async (transaction) => {
    await transaction.query({ text: LIMIT_TIME, timeoutMs: SILENCE_MS })
    const ask = asker(transaction)
    const found = [
      ...(await ask({ name: 'sessions_of_sids', text: SESSIONS_OF_SIDS }, bySid, [({ sid }) => sid])),
      ...(await ask({ name: 'sessions_of_subjects', text: SESSIONS_OF_SUBJECTS }, bySub, [({ sub }) => sub])),
      ...(await ask({ name: 'linked_sessions', text: LINKED_SESSIONS }, linked, [
        ({ sub }) => sub,
        ({ iss }) => iss,
        ({ sid }) => sid,
        ({ relayed }) => relayed?.clientId ?? null,
      ])),
    ]
    const byEvent = Map.groupBy(found, ([id]) => id)
    const whole = [...byEvent].map(([id, parts]) => [id, parts.flatMap(([, sessions]) => sessions)] as const)
    return new Map(whole.filter(([, sessions]) => sessions.length <= SESSIONS_MAX))
  })
}

type Answers = readonly (readonly [EventId, readonly LiveSession[]])[]

const asker =
  (transaction: Queryable) =>
  async (
    statement: { readonly name: string; readonly text: string },
    questions: readonly SessionQuestion[],
    named: readonly ((event: LogoutEvent) => string | null)[],
  ): Promise<Answers> => {
    if (questions.length === 0) return []
    const values = [
      plainArray(questions.map(({ issuer }) => issuer)),
      ...named.map((nameOf) => textColumn(questions.map(({ event }) => nameOf(event)))),
    ]
    const { rows } = await transaction.query<SessionRow>({ ...statement, values, timeoutMs: SILENCE_MS })
    const byPlace = Map.groupBy(rows, ({ place }) => place)
    return questions.map(({ event }, index) => {
      const sessions = (byPlace.get(index + 1) ?? []).map(({ place, ...session }): LiveSession => session)
      return [event.id, sessions] as const
    })
  }
