import type { ClientId, DeliveryId } from '@curfew/domain'
import type { Database } from '../postgres/database.ts'
import type { SessionKey } from './changes.ts'
import { beganBy } from './order.ts'

// A session that began again after the logout has the tokens of its new visit, which the logout must not end.
const FIND_TOKENS = `
  select s.sealed_tokens as sealed
    from deliveries d
    join events e on e.id = d.event_id
    join session_issuers x on x.iss = e.iss
    cross join lateral (
      select k.sub from session_ids k where k.issuer = x.id and k.sid = d.sid and k.client_id = $2 offset 0
    ) k
    cross join lateral (
      select * from sessions s where s.issuer = x.id and s.sub = k.sub and s.sid = d.sid and s.client_id = $2 offset 0
    ) s
    cross join lateral (
      select s.restarted_at as started_at, s.restarted_stated as started_stated, s.restarted_accepted_at as accepted_at
    ) again
   where d.id = $1 and s.sealed_tokens is not null and (s.restarted_at is null or ${beganBy('again')})`

/** Finds the sealed tokens of the session that a delivery names. Empty if the index has none. */
export async function findSessionTokens(
  db: Database,
  { deliveryId, clientId }: { readonly deliveryId: DeliveryId; readonly clientId: ClientId },
): Promise<readonly string[]> {
  const { rows } = await db.query<{ sealed: string }>({
    name: 'find_session_tokens',
    text: FIND_TOKENS,
    values: [deliveryId, clientId],
  })
  return rows.map(({ sealed }) => sealed)
}

/** The sealed tokens of one session of a client. */
export interface SealedTokens extends SessionKey {
  /** A compact JWE. */
  readonly sealed: string
}

const LIST_TOKENS = `
  select issuer, sub, sid, client_id as "clientId", sealed_tokens as sealed from sessions
   where sealed_tokens is not null and ($1::int is null or (issuer, sub, sid, client_id) > ($1, $2, $3, $4))
   order by issuer, sub, sid, client_id limit $5`

/** Lists the sealed tokens of all sessions. @param after the last one of the batch before. */
export async function listSessionTokens(
  db: Database,
  { after, limit }: { readonly after: SealedTokens | null; readonly limit: number },
): Promise<readonly SealedTokens[]> {
  const { rows } = await db.query<SealedTokens>({
    text: LIST_TOKENS,
    values: [after?.issuer ?? null, after?.sub ?? null, after?.sid ?? null, after?.clientId ?? null, limit],
  })
  return rows
}

const REPLACE_TOKENS = `
  update sessions set sealed_tokens = $6
   where issuer = $1 and sub = $2 and sid = $3 and client_id = $4 and sealed_tokens = $5`

/** Stores tokens under their new seal. @returns false, and changes nothing, if they changed since they were read. */
export async function replaceSessionTokens(
  db: Database,
  { issuer, sub, sid, clientId, sealed }: SealedTokens,
  resealed: string,
): Promise<boolean> {
  const { rowCount } = await db.query({
    text: REPLACE_TOKENS,
    values: [issuer, sub, sid, clientId, sealed, resealed],
  })
  return rowCount === 1
}
