import type { AuditSettings, ClientId, IssuerName } from '@curfew/domain'
import { type AuditEntry, writeAudit } from '../access/audit.ts'
import { type Database, type Queryable, withTransaction } from '../postgres/database.ts'

/** The set-up of the logout audits of one relying party. */
export interface AuditSetupRecord {
  readonly issuer: IssuerName
  readonly clientId: ClientId
  readonly settings: AuditSettings
  /** `AuditSecrets` as a compact JWE under the master key; null if the set-up has none. */
  readonly sealedSecrets: string | null
  /** The time between two audits, in seconds; null: by hand only. */
  readonly everyS: number | null
  /** When the next scheduled audit starts; null without a schedule. */
  readonly nextDueAt: Date | null
  /** The result of the last audit that was not inconclusive; null if there was none. */
  readonly lastResult: 'passed' | 'failed' | null
  readonly lastConcludedAt: Date | null
  readonly createdAt: Date
  readonly updatedAt: Date
}

const COLUMNS = `issuer, client_id as "clientId", settings, sealed_secrets as "sealedSecrets", every_s as "everyS",
  next_due_at as "nextDueAt", last_result as "lastResult", last_concluded_at as "lastConcludedAt",
  created_at as "createdAt", updated_at as "updatedAt"`

const FIND_SETUP = `select ${COLUMNS} from logout_audit_setups where issuer = $1 and client_id = $2`

export async function findAuditSetup(
  db: Queryable,
  { issuer, clientId }: { issuer: string; clientId: string },
): Promise<AuditSetupRecord | null> {
  const { rows } = await db.query<AuditSetupRecord>({
    name: 'find_audit_setup',
    text: FIND_SETUP,
    values: [issuer, clientId],
  })
  return rows[0] ?? null
}

const LOCK_PARTY =
  'select from relying_parties where issuer = $1 and client_id = $2 and deleted_at is null for key share'

/** The first audit of a new schedule starts within this time, in seconds: many set-ups at once do not start together. */
const FIRST_WITHIN_S = 60

// An unchanged schedule keeps its next audit.
const PUT_SETUP = `
  insert into logout_audit_setups as s (issuer, client_id, settings, sealed_secrets, every_s, next_due_at, scheduled_since)
  values ($1, $2, $3, $4, $5::integer,
          case when $5 is not null then now() + random() * least($5, ${FIRST_WITHIN_S}) * interval '1 second' end,
          case when $5 is not null then now() end)
  on conflict (issuer, client_id) do update
     set settings = excluded.settings, sealed_secrets = excluded.sealed_secrets, every_s = excluded.every_s,
         next_due_at = case when s.every_s = excluded.every_s then s.next_due_at else excluded.next_due_at end,
         scheduled_since = case when excluded.every_s is null then null else coalesce(s.scheduled_since, now()) end,
         updated_at = now()
  returning ${COLUMNS}`

/**
 * Stores the set-up of a relying party, with its audit record.
 *
 * @returns null if the relying party is not registered.
 */
export async function putAuditSetup(
  db: Database,
  setup: Pick<AuditSetupRecord, 'issuer' | 'clientId' | 'settings' | 'sealedSecrets' | 'everyS'>,
  audit: AuditEntry,
): Promise<AuditSetupRecord | null> {
  const { issuer, clientId, settings, sealedSecrets, everyS } = setup
  return withTransaction(db, async (transaction) => {
    const { rows: found } = await transaction.query({
      name: 'lock_audited_party',
      text: LOCK_PARTY,
      values: [issuer, clientId],
    })
    if (found.length === 0) return null
    const { rows } = await transaction.query<AuditSetupRecord>({
      name: 'put_audit_setup',
      text: PUT_SETUP,
      values: [issuer, clientId, JSON.stringify(settings), sealedSecrets, everyS],
    })
    await writeAudit(transaction, audit)
    return rows[0] ?? null
  })
}

const DELETE_SETUP = 'delete from logout_audit_setups where issuer = $1 and client_id = $2'
const END_WAITING = `
  update logout_audits set state = 'ended', ended_at = now(), result = 'inconclusive', reason = 'interrupted'
   where issuer = $1 and client_id = $2 and state = 'waiting'`

/** Deletes a set-up with its secrets, and ends an audit that waits. @returns whether there was a set-up. */
export async function dropAuditSetup(
  transaction: Queryable,
  { issuer, clientId }: { issuer: string; clientId: string },
): Promise<boolean> {
  const values = [issuer, clientId]
  const { rowCount } = await transaction.query({ name: 'delete_audit_setup', text: DELETE_SETUP, values })
  await transaction.query({ name: 'end_waiting_audit', text: END_WAITING, values })
  return rowCount === 1
}

/** Deletes the set-up of a relying party, with its audit record. @returns whether there was one. */
export async function deleteAuditSetup(
  db: Database,
  party: { issuer: string; clientId: string },
  audit: AuditEntry,
): Promise<boolean> {
  return withTransaction(db, async (transaction) => {
    const deleted = await dropAuditSetup(transaction, party)
    if (deleted) await writeAudit(transaction, audit)
    return deleted
  })
}
