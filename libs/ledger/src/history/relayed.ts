import type { Issuer } from '@curfew/domain'
import type { Database } from '../postgres/database.ts'

// Its condition is that of the index events_relayed, which is small for an issuer that does not use the relay.
const HAS_RELAYED = `
  select exists (
    select from events where iss = $1 and relayed_for is not null and sid is not null and accepted_at >= $2
  ) as relayed`

/** Whether a logout of a session came by the relay since a time. */
export async function hasRelayedEvents(db: Database, iss: Issuer, since: Date): Promise<boolean> {
  const { rows } = await db.query<{ relayed: boolean }>({
    name: 'has_relayed_events',
    text: HAS_RELAYED,
    values: [iss, since],
  })
  return rows[0]?.relayed === true
}
