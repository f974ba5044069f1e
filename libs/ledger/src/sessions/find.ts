import type { EventId, LiveSession, LogoutEvent } from '@curfew/domain'
import { plainArray } from '../postgres/arrays.ts'
import { type Database, type Queryable, withTransaction } from '../postgres/database.ts'
import { beginningOf } from './order.ts'

/** An event, and the number that its issuer has in the session index. */
export interface SessionQuestion {
  readonly event: LogoutEvent
  readonly issuer: number
}

/** Most sessions of one subject, or of one sid, that are planned one by one. */
export const SESSIONS_MAX = 10_000
/** A logout does not wait for the index: without an answer everybody is told. In milliseconds. */
const TIMEOUT_MS = 1_000
// By the server's clock: what only we had given up on would go on there, one more connection for each batch.
const LIMIT_TIME = `set local statement_timeout = ${TIMEOUT_MS}`
/** The same where the server does not answer at all. */
const PATIENCE_MS = 2 * TIMEOUT_MS

// A lateral lookup with both columns that the table is partitioned by: one index scan in one partition for each. What has
// expired, and is not deleted yet, is nobody's any more.
const SESSIONS_OF_SUBJECTS = `
  select g.place, s.*
    from unnest($1::int[], $2::text[]) with ordinality as g(issuer, sub, place)
    cross join lateral (
      select f.sub, f.sid, f.client_id as "clientId", f.device, f.email, ${beginningOf('f')}, f.expires_at as "expiresAt"
        from sessions f
       where f.issuer = g.issuer and f.sub = g.sub and f.expires_at > now()
       limit ${SESSIONS_MAX + 1}
    ) s`

// Of a sid it is asked only who holds it: the device, and when we accepted it, are in the other table alone.
const SESSIONS_OF_SIDS = `
  select g.place, s.*
    from unnest($1::int[], $2::text[]) with ordinality as g(issuer, sid, place)
    cross join lateral (
      select f.sub, f.sid, f.client_id as "clientId", null as device, f.email, f.started_at as "startedAt", true as "startedStated",
             f.started_at as "acceptedAt", f.expires_at as "expiresAt"
        from session_ids f
       where f.issuer = g.issuer and f.sid = g.sid and f.expires_at > now()
       limit ${SESSIONS_MAX + 1}
    ) s`

interface SessionRow extends LiveSession {
  /** Of the question, from 1. */
  readonly place: number
}

/**
 * What the index knows of whom each event logs out: sessions of its `sid` where that is its scope, else of its subject. Whoever
 * has more than 10,000 is not in the answer.
 *
 * @throws {LedgerUnavailableError} when PostgreSQL is away.
 * @throws {Error} with `code`, an SQLSTATE, when it cannot answer, or not within a second.
 */
export async function findSessions(
  db: Database,
  questions: readonly SessionQuestion[],
): Promise<ReadonlyMap<EventId, readonly LiveSession[]>> {
  const bySid = questions.filter(({ event }) => event.scope === 'session')
  const bySub = questions.filter(({ event }) => event.scope !== 'session')
  return withTransaction(db, async (transaction) => {
    await transaction.query({ text: LIMIT_TIME, timeoutMs: PATIENCE_MS })
    const ask = asker(transaction)
    return new Map([
      ...(await ask({ name: 'sessions_of_sids', text: SESSIONS_OF_SIDS }, bySid, ({ sid }) => sid)),
      ...(await ask({ name: 'sessions_of_subjects', text: SESSIONS_OF_SUBJECTS }, bySub, ({ sub }) => sub)),
    ])
  })
}

type Answers = readonly (readonly [EventId, readonly LiveSession[]])[]

const asker =
  (transaction: Queryable) =>
  async (
    statement: { readonly name: string; readonly text: string },
    questions: readonly SessionQuestion[],
    whom: (event: LogoutEvent) => string | null,
  ): Promise<Answers> => {
    if (questions.length === 0) return []
    const values = [
      plainArray(questions.map(({ issuer }) => issuer)),
      questions.map(({ event }) => whom(event)),
    ]
    const { rows } = await transaction.query<SessionRow>({ ...statement, values, timeoutMs: PATIENCE_MS })
    const byPlace = Map.groupBy(rows, ({ place }) => place)
    return questions.flatMap(({ event }, index) => {
      const sessions = (byPlace.get(index + 1) ?? []).map(({ place, ...session }): LiveSession => session)
      return sessions.length > SESSIONS_MAX ? [] : [[event.id, sessions] as const]
    })
  }
