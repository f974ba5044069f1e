import type { Issuer } from '@curfew/domain'
import type { Queryable } from '../postgres/database.ts'

const EVENT_NAMES = `
  select exists (select from events where iss = $1 and sub is not null and sid is null) as "subjects",
         exists (select from events where iss = $1 and sid is not null)
           or exists (select from session_issuers n join session_ids s on s.issuer = n.id where n.iss = $1) as "sessions"`

/** Whether logouts of an issuer have named subjects and sessions so far. Posted sessions count, because logouts then name them. */
export async function findEventNames(
  db: Queryable,
  iss: Issuer,
): Promise<{ readonly subjects: boolean; readonly sessions: boolean }> {
  const { rows } = await db.query<{ subjects: boolean; sessions: boolean }>({
    name: 'event_names',
    text: EVENT_NAMES,
    values: [iss],
  })
  return rows[0] ?? { subjects: false, sessions: false }
}
