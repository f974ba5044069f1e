import type { Database } from '../postgres/database.ts'
import { endOf } from './order.ts'

/** A session of a client, as the index has it. */
export interface SessionRecord {
  readonly iss: string
  /** Short name of the issuer; null if this `iss` was never registered. */
  readonly issuer: string | null
  readonly sub: string
  readonly email: string | null
  readonly sid: string
  readonly clientId: string
  readonly device: string | null
  readonly startedAt: Date
  /** When it ends by itself; null if it has no end. */
  readonly expiresAt: Date | null
  /** The latest logout that covers the session and is not done at the client. */
  readonly logoutEventId: string | null
  /** The id that the issuer gave that event; null if the event is no longer kept. */
  readonly givenEventId: string | null
  /** When its logout failed; null unless the session is an orphan. */
  readonly orphanedAt: Date | null
  /** The age from which on a session of its client is overlong, in milliseconds; null if none is known. */
  readonly overlongAfterMs: number | null
}

/** The place of a session in a list. */
export interface SessionPosition {
  readonly sub: string
  readonly sid: string
  readonly clientId: string
}

export interface SessionsRequest {
  readonly iss: string
  /** Null: every client. */
  readonly clientIds: readonly string[] | null
  /** The last session of the page before; null for the first page. */
  readonly after: SessionPosition | null
  readonly limit: number
}

const FIND_ISSUER = `
  select n.id, i.name from session_issuers n left join issuers i on i.iss = n.iss where n.iss = $1`

/**
 * SQL: the columns of a `SessionRecord`, without its issuer.
 *
 * @param issuer SQL: the short name of its issuer, or null.
 */
export const sessionColumns = (
  issuer: string,
) => `s.sub, s.email, s.sid, s.client_id as "clientId", s.device, s.started_at as "startedAt",
         ${endOf('s')}, s.logout_event_id as "logoutEventId", (select e.given_id from events e where e.id = s.logout_event_id) as "givenEventId", s.orphaned_at as "orphanedAt",
         (select l.overlong_after_ms from session_lifetimes l join relying_parties p on p.id = l.relying_party_id
           where p.issuer = ${issuer} and p.client_id = s.client_id and p.deleted_at is null) as "overlongAfterMs"`

const SESSIONS_OF_SUBJECT = `
  select ${sessionColumns('$6')}
    from sessions s
   where s.issuer = $1 and s.sub = $2 and s.expires_at > now()
     and ($3::text[] is null or s.client_id = any($3))
     and (s.sid, s.client_id) > (coalesce($4::text, ''), coalesce($5::text, ''))
   order by s.sid, s.client_id limit $7`

// `session_ids` finds the sessions of a sid, and `sessions` has their details: one lookup by primary key for each.
const SESSIONS_OF_SID = `
  select ${sessionColumns('$6')}
    from session_ids i
    cross join lateral (
      select * from sessions
       where issuer = $1 and sub = i.sub and sid = $2 and client_id = i.client_id offset 0
    ) s
   where i.issuer = $1 and i.sid = $2 and i.expires_at > now()
     and ($3::text[] is null or i.client_id = any($3))
     and (i.client_id, i.sub) > (coalesce($4::text, ''), coalesce($5::text, ''))
   order by i.client_id, i.sub limit $7`

/** Lists the sessions of one subject that have not expired, sorted by sid and client. */
export async function listSessionsOfSubject(
  db: Database,
  { sub, ...request }: SessionsRequest & { readonly sub: string },
): Promise<readonly SessionRecord[]> {
  const { after } = request
  return list(db, request, {
    name: 'sessions_of_subject',
    text: SESSIONS_OF_SUBJECT,
    of: sub,
    after: after === null ? [null, null] : [after.sid, after.clientId],
  })
}

/** Lists the clients' sessions of one sid that have not expired, sorted by client and subject. */
export async function listSessionsOfSid(
  db: Database,
  { sid, ...request }: SessionsRequest & { readonly sid: string },
): Promise<readonly SessionRecord[]> {
  const { after } = request
  return list(db, request, {
    name: 'sessions_of_sid',
    text: SESSIONS_OF_SID,
    of: sid,
    after: after === null ? [null, null] : [after.clientId, after.sub],
  })
}

async function list(
  db: Database,
  { iss, clientIds, limit }: Omit<SessionsRequest, 'after'>,
  { name, text, of, after }: { name: string; text: string; of: string; after: readonly (string | null)[] },
): Promise<readonly SessionRecord[]> {
  const { rows: issuers } = await db.query<{ id: number; name: string | null }>({
    name: 'find_session_issuer',
    text: FIND_ISSUER,
    values: [iss],
  })
  const [issuer] = issuers
  if (issuer === undefined) return []
  const { rows } = await db.query<Omit<SessionRecord, 'iss' | 'issuer'>>({
    name,
    text,
    values: [issuer.id, of, clientIds, ...after, issuer.name, limit],
  })
  return rows.map((row) => ({ iss, issuer: issuer.name, ...row }))
}
