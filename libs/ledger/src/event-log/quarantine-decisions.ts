import {
  EventLogUnavailableError,
  type Issuer,
  type LogLane,
  type LogRecord,
  type QuarantineKind,
  type QuarantineState,
} from '@curfew/domain'
import { writeAudit } from '../access/audit.ts'
import { type Database, type Queryable, withTransaction } from '../postgres/database.ts'

// Lists of quarantined records, the decisions of people about them, and the requeue.

/** A quarantined record without its content, as lists show it. */
export interface QuarantinedRecord {
  readonly id: number
  readonly lane: LogLane
  /** Its position in the event log. */
  readonly position: string
  readonly kind: QuarantineKind
  readonly reason: string
  /** The issuer that the record names; null if it cannot be read. */
  readonly iss: string | null
  /** The issuer's short name; null if it is not registered. */
  readonly issuer: string | null
  readonly eventId: string | null
  /** Length and SHA-256 (hexadecimal) of the whole value. */
  readonly valueBytes: number
  readonly valueSha256: string
  readonly cutShort: boolean
  readonly quarantinedAt: Date
  readonly state: QuarantineState
  readonly decidedBy: string | null
  readonly decidedAt: Date | null
  readonly requeueError: string | null
}

/** A quarantined record with its content, which may be cut short. */
export interface QuarantinedContent extends QuarantinedRecord {
  readonly key: Uint8Array
  readonly value: Uint8Array
  readonly headers: Readonly<Record<string, string>>
}

/** Selects records. Null members do not filter. */
export interface QuarantineFilter {
  /** The issuer that a credential is bound to. */
  readonly iss: string | null
  /** Short name of the issuer. */
  readonly issuer: string | null
  readonly lane: string | null
  readonly kind: string | null
  readonly state: string | null
}

const COLUMNS = `q.id, q.lane, q.log_position as position, q.kind, q.reason, q.iss, i.name as issuer, q.event_id as "eventId",
  q.value_bytes as "valueBytes", encode(q.value_sha256, 'hex') as "valueSha256", q.cut_short as "cutShort",
  q.quarantined_at as "quarantinedAt", q.state, q.decided_by as "decidedBy", q.decided_at as "decidedAt",
  q.requeue_error as "requeueError"`
const TABLES = 'quarantined_records q left join issuers i on i.iss = q.iss and i.deleted_at is null'

const LIST_QUARANTINED = `
  select ${COLUMNS} from ${TABLES}
   where ($1::text is null or q.iss = $1) and ($2::text is null or i.name = $2)
     and ($3::text is null or q.lane = $3) and ($4::text is null or q.kind = $4) and ($5::text is null or q.state = $5)
     and ($6::bigint is null or q.id < $6)
   order by q.id desc limit $7`

/** Lists the quarantined records that match, the latest first. @param before the last id of the page before. */
export async function listQuarantined(
  db: Database,
  { filter, before, limit }: { filter: QuarantineFilter; before: number | null; limit: number },
): Promise<readonly QuarantinedRecord[]> {
  const { iss, issuer, lane, kind, state } = filter
  // Not prepared by name: a plan that suits one set of filters is bad for another.
  const { rows } = await db.query<QuarantinedRecord>({
    text: LIST_QUARANTINED,
    values: [iss, issuer, lane, kind, state, before, limit],
  })
  return rows
}

const FIND_RECORD = `
  select ${COLUMNS}, q.key, q.value, q.headers from ${TABLES} where q.id = $1 and ($2::text is null or q.iss = $2)`

/** A record's id, and the issuer that the credential is bound to; null if the credential is not bound. */
export interface QuarantineKey {
  readonly id: number
  readonly iss: string | null
}

/** Finds a quarantined record with its content; null if there is none, or it belongs to another issuer. */
export async function findQuarantinedRecord(
  db: Queryable,
  { id, iss }: QuarantineKey,
): Promise<QuarantinedContent | null> {
  const { rows } = await db.query<QuarantinedContent>({
    name: 'find_quarantined_record',
    text: FIND_RECORD,
    values: [id, iss],
  })
  return rows[0] ?? null
}

const FIND_WAITING_EVENT = `
  select id, reason from quarantined_records
   where event_id = $1 and state in ('waiting', 'requeue_requested') and ($2::text is null or iss = $2)
   order by id desc limit 1`

/** Finds the waiting quarantined record of an event; null if there is none, or it belongs to another issuer. */
export async function findQuarantinedEvent(
  db: Queryable,
  { eventId, iss }: { eventId: string; iss: string | null },
): Promise<{ readonly id: number; readonly reason: string } | null> {
  const { rows } = await db.query<{ id: number; reason: string }>({
    name: 'find_quarantined_event',
    text: FIND_WAITING_EVENT,
    values: [eventId, iss],
  })
  return rows[0] ?? null
}

const REQUEST_REQUEUE = `
  update quarantined_records
     set state = 'requeue_requested', decided_by = $3, decided_at = now(), requeue_error = null
   where id = $1 and ($2::text is null or iss = $2) and state in ('waiting', 'dismissed') and not cut_short
  returning id`

const DISMISS = `
  update quarantined_records set state = 'dismissed', decided_by = $3, decided_at = now()
   where id = $1 and ($2::text is null or iss = $2) and state = 'waiting'
  returning id`

/** A decision about a record. `decidedBy` is the name of the credential. */
export type QuarantineDecision = QuarantineKey & { readonly decidedBy: string }

/**
 * Requests the requeue of a record; the bookkeeper appends it to the event log. Changes nothing if the requeue was requested or
 * done already, or if the record was cut short.
 *
 * @returns the record after the call; null if there is none, or it belongs to another issuer.
 */
export function requestRequeue(
  db: Database,
  decision: QuarantineDecision,
): Promise<QuarantinedContent | null> {
  return decide(db, decision, {
    name: 'request_requeue',
    text: REQUEST_REQUEUE,
    action: 'quarantine.requeue_requested',
  })
}

/**
 * Dismisses a waiting record, which stays until retention deletes it. Changes nothing if the record does not wait.
 *
 * @returns the record after the call; null if there is none, or it belongs to another issuer.
 */
export function dismissQuarantined(
  db: Database,
  decision: QuarantineDecision,
): Promise<QuarantinedContent | null> {
  return decide(db, decision, {
    name: 'dismiss_quarantined',
    text: DISMISS,
    action: 'quarantine.dismissed',
  })
}

function decide(
  db: Database,
  { id, iss, decidedBy }: QuarantineDecision,
  { name, text, action }: { name: string; text: string; action: string },
): Promise<QuarantinedContent | null> {
  return withTransaction(db, async (transaction) => {
    const { rowCount } = await transaction.query({ name, text, values: [id, iss, decidedBy] })
    const record = await findQuarantinedRecord(transaction, { id, iss })
    if (record !== null && rowCount === 1) {
      await writeAudit(transaction, {
        credential: decidedBy,
        action,
        object: `/v1/quarantine/${id}`,
        detail: {
          issuer: record.issuer,
          iss: record.iss,
          lane: record.lane,
          kind: record.kind,
          event_id: record.eventId,
        },
      })
    }
    return record
  })
}

const TAKE_REQUEUES = `
  select id, lane, key, value, headers from quarantined_records
   where state = 'requeue_requested' order by decided_at, id limit $1
     for update skip locked`

const MARK_REQUEUED = `update quarantined_records set state = 'requeued' where id = any($1::bigint[])`

// Moves records to the end of the queue, so that a record that the event log does not take holds up no other.
const PUT_BACK = `update quarantined_records set decided_at = clock_timestamp() where id = any($1::bigint[])`

const REFUSED = `
  update quarantined_records q
     set state = 'waiting', decided_by = null, decided_at = null, requeue_error = refused.error
    from unnest($1::bigint[], $2::text[]) as refused (id, error)
   where q.id = refused.id`

/** The outcome of requested requeues, by the ids of records. */
export interface Requeued {
  /** Appended to the event log. */
  readonly requeued: readonly number[]
  /** Refused by the event log. These records wait for a person again. */
  readonly refused: readonly number[]
  /** Not appended, because the event log is unavailable. The next round tries again. */
  readonly unavailable: readonly number[]
}

/**
 * Appends records with a requested requeue to the event log. Two bookkeepers never take the same record. A process that crashes
 * before the commit appends its records twice, and intake recognises the duplicates.
 */
export function takeRequeues(
  db: Database,
  { limit, append }: { limit: number; append: (records: readonly LogRecord[]) => Promise<void> },
): Promise<Requeued> {
  return withTransaction(db, async (transaction) => {
    const { rows } = await transaction.query<
      Pick<QuarantinedContent, 'id' | 'lane' | 'key' | 'value' | 'headers'>
    >({ name: 'take_requeues', text: TAKE_REQUEUES, values: [limit] })
    const results = await Promise.allSettled(
      rows.map(({ lane, key, value, headers }) =>
        append([{ lane, key: new TextDecoder().decode(key), value, headers }]),
      ),
    )
    const requeued: number[] = []
    const unavailable: number[] = []
    const refused: { id: number; error: string }[] = []
    for (const [index, { id }] of rows.entries()) {
      const result = results[index]
      if (result?.status === 'fulfilled') requeued.push(id)
      else if (result?.reason instanceof EventLogUnavailableError) unavailable.push(id)
      else refused.push({ id, error: String(Object(result?.reason).message ?? result?.reason) })
    }
    if (requeued.length > 0)
      await transaction.query({ name: 'mark_requeued', text: MARK_REQUEUED, values: [requeued] })
    if (unavailable.length > 0)
      await transaction.query({ name: 'put_back_requeues', text: PUT_BACK, values: [unavailable] })
    if (refused.length > 0)
      await transaction.query({
        name: 'refuse_requeues',
        text: REFUSED,
        values: [refused.map(({ id }) => id), refused.map(({ error }) => error.replaceAll('\0', ''))],
      })
    return { requeued, refused: refused.map(({ id }) => id), unavailable }
  })
}

/** A relayed logout whose token could not be verified, because the keys of its issuer were unavailable. */
export interface UnverifiedRecord extends Pick<QuarantinedContent, 'value' | 'headers'> {
  readonly iss: Issuer
}

const FIND_UNVERIFIED = `
  select distinct on (iss) iss, value, headers from quarantined_records
   where kind = 'unverified' and state = 'waiting' and not cut_short and iss is not null
   order by iss, id`

/** Finds the oldest waiting record of each issuer whose token could not be verified. */
export async function findUnverified(db: Database): Promise<readonly UnverifiedRecord[]> {
  const { rows } = await db.query<UnverifiedRecord>({ name: 'find_unverified', text: FIND_UNVERIFIED })
  return rows
}

const REQUEUE_UNVERIFIED = `
  with requested as (
    update quarantined_records
       set state = 'requeue_requested', decided_by = 'curfew', decided_at = now(), requeue_error = null
     where kind = 'unverified' and state = 'waiting' and not cut_short and iss = $1
    returning id
  ),
  audited as (
    insert into audit (credential, action, object, detail)
    select 'curfew', 'quarantine.requeue_requested', '/v1/quarantine', jsonb_build_object('iss', $1::text, 'kind', 'unverified', 'records', count(*))
      from requested having count(*) > 0
  )
  select count(*)::int as records from requested`

/** Requests the requeue of all waiting records of an issuer whose tokens could not be verified. @returns their number. */
export async function requeueUnverified(db: Database, iss: Issuer): Promise<number> {
  const { rows } = await db.query<{ records: number }>({
    name: 'requeue_unverified',
    text: REQUEUE_UNVERIFIED,
    values: [iss],
  })
  return rows[0]?.records ?? 0
}
