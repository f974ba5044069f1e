import type { ClientId, Issuer, Session, Sid, Subject } from '@curfew/domain'
import { applySessions, type Database, oweLateLogouts } from '@curfew/ledger'

export interface SessionWish {
  readonly iss: string
  readonly sub: string
  readonly sid: string
  readonly clientId: string
  readonly device?: string
  /** Default: a minute ago. */
  readonly startedAt?: Date
  /** Default: true. */
  readonly startedStated?: boolean
  /** Default: now. */
  readonly acceptedAt?: Date
  /** Null: the session has no end. Default: in an hour. */
  readonly expiresAt?: Date | null
}

/** Adds a session to the index, without looking for a logout that came before it. */
export async function insertSession(db: Database, wish: SessionWish): Promise<Session> {
  const session = sessionOf(wish)
  await applySessions(db, { ends: [], starts: [session] })
  return session
}

/** Adds many sessions of one issuer to the index, without looking for logouts that came before them. */
export async function insertSessions(
  db: Database,
  iss: string,
  wishes: readonly Omit<SessionWish, 'iss'>[],
): Promise<void> {
  await applySessions(db, { ends: [], starts: wishes.map((wish) => sessionOf({ ...wish, iss })) })
}

function sessionOf(wish: SessionWish): Session {
  return {
    iss: wish.iss as Issuer,
    sub: wish.sub as Subject,
    sid: wish.sid as Sid,
    clientId: wish.clientId as ClientId,
    device: wish.device ?? null,
    startedAt: wish.startedAt ?? new Date(Date.now() - 60_000),
    startedStated: wish.startedStated ?? true,
    acceptedAt: wish.acceptedAt ?? new Date(),
    expiresAt: wish.expiresAt === undefined ? new Date(Date.now() + 3_600_000) : wish.expiresAt,
  }
}

/** Applies the start of a session to the index, as intake does. */
export async function startSession(db: Database, wish: SessionWish): Promise<Session> {
  const session = await insertSession(db, wish)
  await oweLateLogouts(db, [session])
  return session
}

/** Empties the index. With this many partitions, `delete` is faster than `truncate`. */
export async function forgetSessions(db: Database): Promise<void> {
  for (const table of ['sessions', 'session_ids', 'session_issuers']) await db.query(`delete from ${table}`)
}

export interface SessionState {
  readonly sid: string
  readonly clientId: string
  readonly logoutEventId: string | null
  readonly orphaned: boolean
}

/** The sessions of a subject in the index, by client and sid. Throws if the two tables disagree. */
export async function sessionsOf(db: Database, sub: string): Promise<readonly SessionState[]> {
  const { rows } = await db.query<SessionState & { readonly paired: boolean }>(
    `select s.sid, s.client_id as "clientId", s.logout_event_id as "logoutEventId", s.orphaned_at is not null as orphaned,
            i.sid is not null as paired
       from sessions s full join session_ids i using (issuer, sub, sid, client_id)
      where sub = $1 order by s.client_id, s.sid`,
    [sub],
  )
  return rows.map(({ paired, ...state }) => {
    if (!paired || state.sid === null) throw new Error(`the tables differ: ${JSON.stringify(state)}`)
    return state
  })
}
