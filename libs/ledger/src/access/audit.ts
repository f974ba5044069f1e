import type { Database, Queryable } from '../postgres/database.ts'

/** The credential of actions that the bookkeeper does by itself. */
export const BOOKKEEPER = 'bookkeeper'

/** One action of a credential. */
export interface AuditEntry {
  /** Name of the credential; never the key. */
  readonly credential: string
  /** The action, such as `replay.requested`. */
  readonly action: string
  /** The changed object, as a path of the API. */
  readonly object: string
  readonly detail: Readonly<Record<string, unknown>>
}

export interface AuditRecord extends AuditEntry {
  /** Grows with time, but not without gaps. */
  readonly id: number
  readonly at: Date
  /** Id of the API key that acted; null if no API key did. */
  readonly credentialId: string | null
}

/** Makes the audit entry of a change. `before` is null for a creation, `after` is null for a removal. */
export type Change<Record> = (before: Record | null, after: Record | null) => AuditEntry

// A key that was revoked in the last ten seconds may still act in another process. If two keys match, the id stays null.
const WRITE_AUDIT = `
  with keys as (
    select name, case when count(*) = 1 then (array_agg(id))[1] end as id from api_keys
     where name = any($1::text[]) and (revoked_at is null or revoked_at > now() - interval '10 seconds')
     group by name
  )
  insert into audit (credential, action, object, detail, credential_id)
  select given.credential, given.action, given.object, given.detail, keys.id
    from unnest($1::text[], $2::text[], $3::text[], $4::jsonb[]) with ordinality
      as given(credential, action, object, detail, position)
    left join keys on keys.name = given.credential
   order by given.position`

/** Writes audit entries in the transaction of the action, so that both commit or neither. */
export async function writeAudit(transaction: Queryable, ...entries: readonly AuditEntry[]): Promise<void> {
  await transaction.query({
    name: 'write_audit',
    text: WRITE_AUDIT,
    values: [
      entries.map(({ credential }) => credential),
      entries.map(({ action }) => action),
      entries.map(({ object }) => object),
      entries.map(({ detail }) => JSON.stringify(detail)),
    ],
  })
}

const LIST_AUDIT = `
  select id, at, credential, credential_id as "credentialId", action, object, detail from audit
   where id < coalesce($1::bigint, ${Number.MAX_SAFE_INTEGER}) order by id desc limit $2`

/** Lists the audit trail, the latest entry first. @param before the last id of the page before. */
export async function listAudit(
  db: Database,
  { before, limit }: { before: number | null; limit: number },
): Promise<readonly AuditRecord[]> {
  const { rows } = await db.query<AuditRecord>({ text: LIST_AUDIT, values: [before, limit] })
  return rows
}
