import type { ClientId, IssuerName } from '@curfew/domain'
import { type AuditEntry, writeAudit } from '../access/audit.ts'
import { type Database, withTransaction } from '../postgres/database.ts'

/** A probe of a client's endpoint, running or ended. */
export interface ProbeRecord {
  readonly id: string
  readonly issuer: IssuerName
  readonly clientId: ClientId
  /** The kind of the endpoint's channel. */
  readonly kind: string
  readonly uri: string
  /** Name of the credential that requested it. */
  readonly credential: string
  readonly startedAt: Date
  readonly endedAt: Date | null
  /** Number of answered requests, of `total`. */
  readonly sent: number
  readonly total: number
  /** Null while the probe is running. */
  readonly report: Readonly<Record<string, unknown>> | null
}

/** A probe without an end after this time was left by a process that has ended. In seconds. */
const LEFT_AFTER_S = 120
/** Number of probes that are kept for each client. */
const KEPT = 10

const COLUMNS = `id, issuer, client_id as "clientId", kind, uri, credential, started_at as "startedAt",
  ended_at as "endedAt", sent, total, report`

const DELETE_LEFT = `
  delete from probes
   where issuer = $1 and client_id = $2 and ended_at is null and started_at < now() - make_interval(secs => $3)`

const START_PROBE = `
  insert into probes (id, issuer, client_id, kind, uri, credential, total) values ($1, $2, $3, $4, $5, $6, $7)
  on conflict (issuer, client_id) where ended_at is null do nothing
  returning ${COLUMNS}`

/**
 * Records the start of a probe, and an audit record. A client has one running probe at a time.
 *
 * @param probe with a new UUID as its `id`. @param session the real session that it ends, for the audit record.
 * @returns null if a probe of the client is running.
 */
export async function startProbe(
  db: Database,
  probe: Pick<ProbeRecord, 'id' | 'issuer' | 'clientId' | 'kind' | 'uri' | 'credential' | 'total'>,
  session: Readonly<Record<string, unknown>> | null = null,
): Promise<ProbeRecord | null> {
  const { id, issuer, clientId, kind, uri, credential, total } = probe
  return withTransaction(db, async (transaction) => {
    await transaction.query({ text: DELETE_LEFT, values: [issuer, clientId, LEFT_AFTER_S] })
    const { rows } = await transaction.query<ProbeRecord>({
      text: START_PROBE,
      values: [id, issuer, clientId, kind, uri, credential, total],
    })
    const [started] = rows
    if (started === undefined) return null
    await writeAudit(transaction, {
      credential,
      action: 'relying_party.probed',
      object: `/v1/issuers/${issuer}/relying-parties/${encodeURIComponent(clientId)}`,
      detail: { probe: id, channel: kind, uri, ...(session !== null && { session }) },
    })
    return started
  })
}

const PROGRESS_PROBE = 'update probes set sent = $2 where id = $1 and ended_at is null'

/** Records the progress of a probe. */
export async function progressProbe(db: Database, id: string, sent: number): Promise<void> {
  await db.query({ text: PROGRESS_PROBE, values: [id, sent] })
}

const END_PROBE = `
  with ended as (
    update probes set ended_at = now(), sent = $2, report = $3 where id = $1 and ended_at is null returning *
  ),
  deleted as (
    delete from probes
     where id in (
       select p.id from probes p, ended e
        where p.issuer = e.issuer and p.client_id = e.client_id and p.id <> e.id
        order by p.started_at desc offset $4
     )
  )
  select ${COLUMNS} from ended`

/** Stores the report of a probe, and deletes the oldest probes of the client. @returns null if the probe was deleted. */
export async function endProbe(
  db: Database,
  { id, sent, report }: Pick<ProbeRecord, 'id' | 'sent'> & { report: Readonly<Record<string, unknown>> },
): Promise<ProbeRecord | null> {
  const { rows } = await db.query<ProbeRecord>({
    text: END_PROBE,
    values: [id, sent, JSON.stringify(report), KEPT - 1],
  })
  return rows[0] ?? null
}

const DROP_PROBE = 'delete from probes where id = $1 and ended_at is null'

/** Deletes a probe that ended without a report, so that another can start. */
export async function dropProbe(db: Database, id: string): Promise<void> {
  await db.query({ text: DROP_PROBE, values: [id] })
}

const FIND_LAST_PROBE = `
  select ${COLUMNS} from probes
   where issuer = $1 and client_id = $2
     and (ended_at is not null or started_at >= now() - make_interval(secs => $3))
   order by started_at desc limit 1`

/** Finds the last probe of a client, running or ended. */
export async function findLastProbe(
  db: Database,
  { issuer, clientId }: { issuer: string; clientId: string },
): Promise<ProbeRecord | null> {
  const { rows } = await db.query<ProbeRecord>({
    text: FIND_LAST_PROBE,
    values: [issuer, clientId, LEFT_AFTER_S],
  })
  return rows[0] ?? null
}

const LOCK_LAST_PROBE = `
  select ${COLUMNS} from probes
   where issuer = $1 and client_id = $2 and ended_at is not null order by started_at desc limit 1 for update`
const SET_REPORT = `update probes set report = $2 where id = $1 returning ${COLUMNS}`

/**
 * Changes the report of the last ended probe of a client, and writes an audit record.
 *
 * @param next returns the new report; null to leave it as it is.
 * @returns null if nothing was changed.
 */
export async function changeLastReport(
  db: Database,
  { issuer, clientId }: { issuer: string; clientId: string },
  next: (probe: ProbeRecord) => {
    readonly report: Readonly<Record<string, unknown>>
    readonly audit: AuditEntry
  } | null,
): Promise<ProbeRecord | null> {
  return withTransaction(db, async (transaction) => {
    const found = await transaction.query<ProbeRecord>({ text: LOCK_LAST_PROBE, values: [issuer, clientId] })
    const [before] = found.rows
    const change = before === undefined ? null : next(before)
    if (before === undefined || change === null) return null
    const { rows } = await transaction.query<ProbeRecord>({
      text: SET_REPORT,
      values: [before.id, JSON.stringify(change.report)],
    })
    await writeAudit(transaction, change.audit)
    return rows[0] ?? null
  })
}
