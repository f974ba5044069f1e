import type { Issuer, IssuerName, Subject } from '@curfew/domain'
import { BOOKKEEPER, writeAudit } from '../access/audit.ts'
import { type Database, type Queryable, withTransaction } from '../postgres/database.ts'
import { namedParameters } from '../postgres/parameters.ts'

/** Numbers of the rows erased so far. */
export interface ErasedCounts {
  readonly events: number
  readonly deliveries: number
  /** Attempts that had an error text of the relying party. */
  readonly attempts: number
  readonly sessions: number
  readonly receipts: number
  readonly quarantined: number
}

/** Numbers of the rows that cannot be erased yet. */
export interface WaitingCounts {
  /** Events that keep their subject. The other counts are the reasons. */
  readonly events: number
  /** Deliveries that are not settled. */
  readonly deliveries: number
  readonly deadLetters: number
  /** Events that may still cover a session which is posted late. */
  readonly recent: number
  /** Open sessions in the index. */
  readonly sessions: number
  readonly quarantined: number
}

/** A request to erase a subject, and its progress. */
export interface ErasureRecord {
  readonly id: string
  readonly issuer: IssuerName
  readonly subjectDigest: string
  /** Whether rows that a person could still act on are erased, too: dead letters, quarantined records, open sessions. */
  readonly abandon: boolean
  readonly requestedBy: string
  readonly requestedAt: Date
  /** The request covers everything that was accepted before this time. */
  readonly watchedUntil: Date
  readonly completedAt: Date | null
  readonly closedAt: Date | null
  /** When the bookkeeper gave up, because it failed at the same place again and again; null if it did not. */
  readonly failedAt: Date | null
  /** Why it failed, for people; null if it did not. */
  readonly failure: string | null
  readonly erased: ErasedCounts
  /** Null until the first look at everything is complete. */
  readonly waiting: WaitingCounts | null
}

/** A request that is not closed, with the names to look for. */
export interface OpenErasure extends ErasureRecord {
  readonly iss: Issuer
  readonly sub: Subject
  readonly sids: readonly string[]
  /** Email addresses of the subject, as the request, sessions and events had them. */
  readonly emails: readonly string[]
  /** Whether logouts of this issuer are planned by the session index. */
  readonly indexed: boolean
}

const COLUMNS = `r.id, r.issuer, r.subject_digest as "subjectDigest", r.abandon, r.requested_by as "requestedBy",
  r.requested_at as "requestedAt", r.watched_until as "watchedUntil", r.completed_at as "completedAt",
  r.closed_at as "closedAt", r.failed_at as "failedAt", r.failure, r.waiting,
  jsonb_build_object('events', r.erased_events, 'deliveries', r.erased_deliveries, 'attempts', r.erased_attempts,
    'sessions', r.erased_sessions, 'receipts', r.erased_receipts, 'quarantined', r.erased_quarantined) as erased`

// Includes removed issuers, which keep their history.
const ISSUER_EVER = 'select iss from issuers where name = $1'

/** Finds the `iss` of an issuer, registered or removed; null if this name was never registered. */
export async function findIssEver(db: Queryable, name: string): Promise<Issuer | null> {
  const { rows } = await db.query<{ iss: Issuer }>({ text: ISSUER_EVER, values: [name] })
  return rows[0]?.iss ?? null
}

// A repeated request watches for as long as a new one. `abandon` stays true once it was requested.
const REQUEST = namedParameters({
  id: 'uuid',
  issuer: 'text',
  sub: 'text',
  emails: 'text[]',
  subject_digest: 'text',
  abandon: 'boolean',
  requested_by: 'text',
  requested_at: 'timestamptz',
  watched_until: 'timestamptz',
  next_look_at: 'timestamptz',
})
const REQUEST_ERASURE = `
  insert into erasures as r (${REQUEST.names}) values (${REQUEST.list})
  on conflict (issuer, sub) where sub is not null do update
     set abandon = r.abandon or excluded.abandon, emails = array(select distinct unnest(r.emails || excluded.emails)), watched_until = excluded.watched_until,
         next_look_at = excluded.next_look_at, waiting = null, completed_at = null, failed_at = null, failure = null
  returning r.id`

/**
 * Records a request to erase a subject. Erases nothing yet. An open request for the same subject is continued.
 *
 * @param request with a new UUID as its `id`. `nextLookAt` is the earliest time at which a bookkeeper takes it.
 * @returns the id of the open request.
 */
export async function requestErasure(
  db: Database,
  request: Pick<
    ErasureRecord,
    'id' | 'issuer' | 'subjectDigest' | 'abandon' | 'requestedBy' | 'requestedAt' | 'watchedUntil'
  > & {
    readonly sub: string
    /** Email addresses of the subject that only the caller knows. Those in sessions and events are found. */
    readonly emails: readonly string[]
    readonly nextLookAt: Date
  },
): Promise<string> {
  const { id, issuer, subjectDigest, abandon, requestedBy } = request
  return withTransaction(db, async (transaction) => {
    const { rows } = await transaction.query<{ id: string }>({
      text: REQUEST_ERASURE,
      values: REQUEST.values({
        ...request,
        subject_digest: subjectDigest,
        requested_by: requestedBy,
        requested_at: request.requestedAt,
        watched_until: request.watchedUntil,
        next_look_at: request.nextLookAt,
      }),
    })
    const openId = rows[0]?.id ?? id
    // Names the subject by digest only, because the audit log is never erased.
    await writeAudit(transaction, {
      credential: requestedBy,
      action: 'subject.erasure_requested',
      object: `/v1/erasures/${openId}`,
      detail: { issuer, subject_digest: subjectDigest, abandon },
    })
    return openId
  })
}

const FIND_ERASURE = `select ${COLUMNS} from erasures r where r.id = $1`

/** Finds a request; null if there is none with this id (any more). */
export async function findErasure(db: Queryable, id: string): Promise<ErasureRecord | null> {
  const { rows } = await db.query<ErasureRecord>({ text: FIND_ERASURE, values: [id] })
  return rows[0] ?? null
}

const CLAIM_ERASURE = `
  update erasures r set next_look_at = $2
   where r.id = (select id from erasures where next_look_at <= $1 order by next_look_at limit 1 for update skip locked)
  returning r.id`

/**
 * Claims the request that is due first. No other bookkeeper gets it before `leaseUntil`. @returns its id, or null if none is due.
 */
export async function claimErasure(
  db: Database,
  { now, leaseUntil }: { now: Date; leaseUntil: Date },
): Promise<string | null> {
  const { rows } = await db.query<{ id: string }>({
    name: 'claim_erasure',
    text: CLAIM_ERASURE,
    values: [now, leaseUntil],
  })
  return rows[0]?.id ?? null
}

const LOCK_ERASURE = `
  select ${COLUMNS}, r.sub, r.sids, r.emails, i.iss,
         i.session_index <> 'off' and exists (select from session_issuers x where x.iss = i.iss) as indexed
    from erasures r join issuers i on i.name = r.issuer
   where r.id = $1 and r.closed_at is null for update of r`

/** Locks a request until the transaction ends, and reads it; null if it is closed. */
export async function lockErasure(transaction: Queryable, id: string): Promise<OpenErasure | null> {
  const { rows } = await transaction.query<OpenErasure>({
    name: 'lock_erasure',
    text: LOCK_ERASURE,
    values: [id],
  })
  return rows[0] ?? null
}

const ADD_ERASED = `
  update erasures
     set sids = array(select distinct unnest(sids || $2::text[])),
         erased_events = erased_events + $3, erased_deliveries = erased_deliveries + $4,
         erased_attempts = erased_attempts + $5, erased_sessions = erased_sessions + $6,
         erased_receipts = erased_receipts + $7, erased_quarantined = erased_quarantined + $8,
         emails = array(select distinct unnest(emails || $9::text[]))
   where id = $1`

/** Adds counts of erased rows, and the sessions and addresses found to be the subject's, in the transaction that erases. */
export async function addErased(
  transaction: Queryable,
  id: string,
  {
    sids = [],
    emails = [],
    erased = {},
  }: { sids?: readonly string[]; emails?: readonly string[]; erased?: Partial<ErasedCounts> },
): Promise<void> {
  const { events = 0, deliveries = 0, attempts = 0, sessions = 0, receipts = 0, quarantined = 0 } = erased
  await transaction.query({
    name: 'add_erased',
    text: ADD_ERASED,
    values: [id, sids, events, deliveries, attempts, sessions, receipts, quarantined, emails],
  })
}

// A closed request loses the names of the subject: no further look is possible.
const END_LOOK = `
  update erasures
     set waiting = $3::jsonb,
         completed_at = case when $5::boolean then null else coalesce(completed_at, $2::timestamptz) end,
         closed_at = case when $6::boolean then $2::timestamptz end,
         sub = case when $6::boolean then null else sub end,
         sids = case when $6::boolean then '{}' else sids end,
         emails = case when $6::boolean then '{}' else emails end,
         next_look_at = case when $6::boolean then null else $4::timestamptz end,
         failed_at = null, failure = null
   where id = $1 and closed_at is null`

/**
 * Records the counts that a complete look left. If nothing is left, the request is completed, which is audited once. If its watch
 * is over as well, it is closed.
 */
export async function endLook(
  transaction: Queryable,
  before: OpenErasure,
  { waiting, now, nextLookAt }: { waiting: WaitingCounts; now: Date; nextLookAt: Date },
): Promise<void> {
  const waits = Object.values(waiting).some((count) => count > 0)
  const closes = !waits && now >= before.watchedUntil
  await transaction.query({
    name: 'end_look',
    text: END_LOOK,
    values: [before.id, now, JSON.stringify(waiting), nextLookAt, waits, closes],
  })
  if (waits || before.completedAt !== null) return
  await writeAudit(transaction, {
    credential: before.requestedBy,
    action: 'subject.erased',
    object: `/v1/erasures/${before.id}`,
    detail: { issuer: before.issuer, subject_digest: before.subjectDigest, erased: before.erased },
  })
}

const FAIL_ERASURE = `
  update erasures set failed_at = now(), failure = $2, next_look_at = null
   where id = $1 and closed_at is null and failed_at is null
  returning issuer, subject_digest as "subjectDigest"`

/** Marks a request as failed. Nothing more is erased until the same request is made again. */
export async function failErasure(
  db: Database,
  { id, failure }: { id: string; failure: string },
): Promise<void> {
  await withTransaction(db, async (transaction) => {
    const { rows } = await transaction.query<Pick<ErasureRecord, 'issuer' | 'subjectDigest'>>({
      name: 'fail_erasure',
      text: FAIL_ERASURE,
      values: [id, failure],
    })
    const [row] = rows
    if (row === undefined) return
    await writeAudit(transaction, {
      credential: BOOKKEEPER,
      action: 'subject.erasure_failed',
      object: `/v1/erasures/${id}`,
      detail: { issuer: row.issuer, subject_digest: row.subjectDigest, failure },
    })
  })
}

const DELETE_ERASURES = `
  delete from erasures where id = any(array(
    select id from erasures where closed_at < $1 order by closed_at limit $2))`

/** Deletes one batch of requests that were closed before a time. @returns the number deleted. */
export async function deleteErasures(
  db: Database,
  { before, limit }: { before: Date; limit: number },
): Promise<number> {
  const { rowCount } = await db.query({
    name: 'delete_erasures',
    text: DELETE_ERASURES,
    values: [before, limit],
  })
  return rowCount ?? 0
}
