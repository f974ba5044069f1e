import type { GivenEventId, Issuer } from '@curfew/domain'
import type { Database } from '../postgres/database.ts'
import { deliveriesOf } from './event-ranges.ts'

/** The ids by which Curfew recognises a logout token that it sent. Null: the token has none of that kind. */
export interface ReturnedToken {
  readonly iss: Issuer
  /** Its `jti`, if that may be a `messageId` of the domain. */
  readonly jti: string | null
  /** Its `txn`, if that is a UUID: Curfew's tokens have the id of their event there, unless the IdP gave another `txn`. */
  readonly txn: GivenEventId | null
  /** The id of the event that the token would make, if Curfew sent the request: the token may be a forwarded one. */
  readonly eventId: GivenEventId | null
}

// Each branch reads a few rows of one index.
const IS_RETURNED = `
  select exists (select 1 from events e where e.given_id = $3 and e.iss = $1)
      or exists (select 1 from events e where e.given_id = $4 and e.iss = $1)
      or exists (select 1 from deliveries d join events e on e.id = d.event_id
                  where d.id between ${deliveriesOf('$2').lowest} and ${deliveriesOf('$2').highest} and e.iss = $1)
         as returned`

/** Whether a logout token is one that Curfew sent for an event of the ledger. @throws {LedgerUnavailableError} */
export async function isReturned(db: Database, { iss, jti, txn, eventId }: ReturnedToken): Promise<boolean> {
  const { rows } = await db.query<{ returned: boolean }>({
    name: 'is_returned',
    text: IS_RETURNED,
    values: [iss, jti, txn, eventId],
  })
  return rows[0]?.returned ?? false
}
