import type {
  AccessConditions,
  AuditDelivery,
  AuditOutcome,
  AuditReason,
  ClientId,
  IssuerName,
} from '@curfew/domain'
import { writeAudit } from '../access/audit.ts'
import type { DeleteRequest } from '../history/retention.ts'
import { type Database, type Queryable, withTransaction } from '../postgres/database.ts'

/** The findings of an audit for people, as the API has them. */
export interface AuditFindings {
  readonly what: string
  readonly fix: string | null
  /** The last answer of the check. */
  readonly check: {
    readonly says: string
    readonly status: number | null
    /** The target of a redirect, without the values of its parameters. */
    readonly location: string | null
  } | null
  /** Answered checks after the logout, and answered refreshes. */
  readonly checks: number
  readonly refreshes: number
}

/** One logout audit of a relying party. */
export interface AuditRun {
  readonly id: string
  readonly issuer: IssuerName
  readonly clientId: ClientId
  readonly trigger: 'request' | 'schedule'
  readonly requestedBy: string
  readonly requestedAt: Date
  readonly state: 'waiting' | 'running' | 'ended'
  readonly startedAt: Date | null
  readonly endedAt: Date | null
  /** The id that the event has in the API; null before one was posted. */
  readonly eventId: string | null
  readonly acceptedAt: Date | null
  readonly propagationMs: number | null
  readonly result: AuditOutcome['result'] | null
  readonly reason: AuditReason | null
  readonly deliveryState: AuditDelivery['state'] | null
  readonly deliveryLevel: AuditDelivery['level']
  readonly findings: AuditFindings | null
}

const COLUMNS = `a.id, a.issuer, a.client_id as "clientId", a.trigger, a.requested_by as "requestedBy",
  a.requested_at as "requestedAt", a.state, a.started_at as "startedAt", a.ended_at as "endedAt",
  a.event_id as "eventId", a.accepted_at as "acceptedAt", a.propagation_ms as "propagationMs", a.result, a.reason,
  a.delivery_state as "deliveryState", a.delivery_level as "deliveryLevel", a.findings`

const LIST_AUDITED = `
  select s.client_id as "clientId" from logout_audit_setups s
   where s.issuer = $1 and ($2::text[] is null or s.client_id = any($2)) order by s.client_id limit $3`

/** Lists the clients with a set-up. @param clientIds the only clients to list; null: all. */
export async function listAuditedClients(
  db: Queryable,
  { issuer, clientIds, limit }: { issuer: string; clientIds: readonly string[] | null; limit: number },
): Promise<readonly ClientId[]> {
  const { rows } = await db.query<{ clientId: ClientId }>({
    name: 'list_audited_clients',
    text: LIST_AUDITED,
    values: [issuer, clientIds, limit],
  })
  return rows.map(({ clientId }) => clientId)
}

// The set-up is locked, so that an audit is not requested while its set-up is deleted.
const REQUEST_AUDITS = `
  with setups as (
    select s.client_id from logout_audit_setups s
     where s.issuer = $1 and s.client_id = any($3::text[]) order by s.client_id for key share
  )
  insert into logout_audits (id, issuer, client_id, trigger, requested_by)
  select given.id, $1, given.client_id, $4, $5
    from unnest($2::uuid[], $3::text[]) as given(id, client_id) join setups using (client_id)
  on conflict (issuer, client_id) where ended_at is null do nothing`

const UNENDED = `
  select ${COLUMNS} from logout_audits a
   where a.issuer = $1 and a.client_id = any($2::text[]) and a.ended_at is null order by a.client_id`

/**
 * Requests an audit for each client. A client whose audit waits or runs gets no second one.
 *
 * @param audits clients with a set-up, and a new UUIDv7 for each.
 * @returns the audit of each client.
 */
export async function requestAudits(
  db: Database,
  {
    issuer,
    audits,
    by,
  }: {
    issuer: string
    audits: readonly { readonly id: string; readonly clientId: ClientId }[]
    by: string
  },
): Promise<readonly AuditRun[]> {
  const clients = audits.map(({ clientId }) => clientId)
  return withTransaction(db, async (transaction) => {
    await transaction.query({
      name: 'request_audits',
      text: REQUEST_AUDITS,
      values: [issuer, audits.map(({ id }) => id), clients, 'request', by],
    })
    const { rows } = await transaction.query<AuditRun>({
      name: 'list_unended_audits',
      text: UNENDED,
      values: [issuer, clients],
    })
    await writeAudit(transaction, {
      credential: by,
      action: 'logout_audits.requested',
      object: '/v1/audits',
      detail: { issuer, audits: rows.length },
    })
    return rows
  })
}

const FIND_AUDIT = `select ${COLUMNS} from logout_audits a where a.id = $1`

export async function findAuditRun(db: Queryable, id: string): Promise<AuditRun | null> {
  const { rows } = await db.query<AuditRun>({ name: 'find_audit_run', text: FIND_AUDIT, values: [id] })
  return rows[0] ?? null
}

const LIST_AUDITS = `
  select ${COLUMNS} from logout_audits a
   where ($1::text is null or a.issuer = $1) and ($2::text[] is null or a.client_id = any($2))
     and ($3::text is null or a.result = $3) and ($4::uuid is null or a.id < $4)
   order by a.id desc limit $5`

/** Lists audits, the latest first. @param before the last id of the page before. */
export async function listAuditRuns(
  db: Queryable,
  {
    issuer,
    clientIds,
    result,
    before,
    limit,
  }: AccessConditions & { result: string | null; before: string | null; limit: number },
): Promise<readonly AuditRun[]> {
  const { rows } = await db.query<AuditRun>({
    text: LIST_AUDITS,
    values: [issuer, clientIds, result, before, limit],
  })
  return rows
}

const DELETE_AUDITS = `
  delete from logout_audits where id = any(array(
    select id from logout_audits where ended_at < $1 order by ended_at limit $2))`

/** Deletes audits that ended before a time. The last result stays with the set-up. @returns the number deleted. */
export async function deleteAuditRuns(db: Database, { before, limit }: DeleteRequest): Promise<number> {
  const { rowCount } = await db.query({
    name: 'delete_audit_runs',
    text: DELETE_AUDITS,
    values: [before, limit],
  })
  return rowCount ?? 0
}
