import type { ClientId, GivenEventId, Issuer, Sid, Subject } from '@curfew/domain'
import type { Database } from '../postgres/database.ts'

/** A logout token that may have come back to Curfew. */
export interface ReturnedToken {
  readonly iss: Issuer
  readonly clientId: ClientId
  /** Its `txn`, if that is a UUID. Curfew's own tokens have the id of their event there, unless the IdP gave another `txn`. */
  readonly eventId: GivenEventId | null
  /** The token as Curfew sent it, if Curfew sent the request; else null. */
  readonly sent: {
    /** The id of the event that the token would make. */
    readonly id: GivenEventId
    readonly txn: string | null
    readonly sub: Subject | null
    readonly sid: Sid | null
  } | null
}

// Each branch reads a few rows of one index. The last two find the event of a token that was minted with the txn of the IdP.
const IS_RETURNED = `
  select exists (select 1 from events e where e.given_id = $3 and e.iss = $1)
      or exists (select 1 from events e where e.given_id = $4 and e.iss = $1)
      or exists (select 1 from events e
                  where e.iss = $1 and e.sid = $7 and e.relayed_for is not null and e.relayed_for = $2 and e.txn = $5)
      or exists (select 1 from events e
                  where $7::text is null and e.iss = $1 and e.sub = $6 and e.sid is null and e.relayed_for = $2 and e.txn = $5)
         as returned`

/** Whether a logout token is one that Curfew sent for an event of the ledger. @throws {LedgerUnavailableError} */
export async function isReturned(
  db: Database,
  { iss, clientId, eventId, sent }: ReturnedToken,
): Promise<boolean> {
  const { rows } = await db.query<{ returned: boolean }>({
    name: 'is_returned',
    text: IS_RETURNED,
    values: [
      iss,
      clientId,
      eventId,
      sent?.id ?? null,
      sent?.txn ?? null,
      sent?.sub ?? null,
      sent?.sid ?? null,
    ],
  })
  return rows[0]?.returned ?? false
}
