import type { IssuerLogoutProgress } from '@curfew/domain'
import { BOOKKEEPER, writeAudit } from '../access/audit.ts'
import { journalPlanned } from '../history/journal.ts'
import { type Database, type Queryable, withTransaction } from '../postgres/database.ts'

/** An issuer logout and its progress. */
export interface IssuerLogoutRecord extends IssuerLogoutProgress {
  /** The id of its event. */
  readonly id: string
  /** The event id that the issuer gave. */
  readonly givenId: string
  readonly iss: string
  /** Short name of the issuer; null if this `iss` was never registered. */
  readonly issuer: string | null
  readonly reason: string | null
  readonly initiator: string | null
  readonly clients: readonly string[] | null
  readonly planBasis: string
  readonly occurredAt: Date
  /** Name of the credential that requested it. */
  readonly requestedBy: string
  readonly requestedAt: Date
  /** Why it failed, for people; null unless it did. */
  readonly failure: string | null
  /** The number of deliveries that are not settled. */
  readonly waiting: number
  readonly acknowledged: number
  readonly superseded: number
  readonly lapsed: number
  readonly dead: number
}

/** SQL: the API path of an issuer logout, for the audit trail. @param of alias of a row with `given_id` and `iss`. */
export const issuerLogoutObject = (of: string) =>
  `'/v1/issuer-logouts/' || ${of}.given_id || coalesce('?issuer=' || (select i.name from issuers i where i.iss = ${of}.iss), '')`

/** SQL: the progress columns of a row `l` of `issuer_logouts`. */
export const PROGRESS = `l.requested_by as "requestedBy", l.requested_at as "requestedAt", l.state, l.ended_at as "endedAt",
  l.failure, l.total, l.planned as done, greatest(l.owed - l.acknowledged - l.superseded - l.lapsed - l.dead, 0) as waiting,
  l.acknowledged, l.superseded, l.lapsed, l.dead`

const RECORD = `
  select l.event_id as id, e.given_id as "givenId", l.iss, i.name as issuer, e.reason, e.initiator, e.clients, e.plan_basis as "planBasis",
         e.occurred_at as "occurredAt", ${PROGRESS}
    from issuer_logouts l join events e on e.id = l.event_id left join issuers i on i.iss = l.iss`

const FIND_ISSUER_LOGOUT = `${RECORD} where l.event_id = $1`

/** Finds an issuer logout by the id of its event; null if there is none, or its event is not planned yet. */
export async function findIssuerLogout(db: Queryable, id: string): Promise<IssuerLogoutRecord | null> {
  const { rows } = await db.query<IssuerLogoutRecord>({
    name: 'find_issuer_logout',
    text: FIND_ISSUER_LOGOUT,
    values: [id],
  })
  return rows[0] ?? null
}

const LIST_ISSUER_LOGOUTS = `${RECORD}
   where (l.requested_at, l.event_id) < (coalesce($2::timestamptz, 'infinity'), coalesce($3::uuid, '00000000-0000-0000-0000-000000000000'))
     and ($1::text is null or l.iss = $1)
   order by l.requested_at desc, l.event_id desc limit $4`

/**
 * Lists issuer logouts, the latest first.
 *
 * @param iss null: of every issuer.
 * @param before the last issuer logout of the page before.
 */
export async function listIssuerLogouts(
  db: Database,
  {
    iss,
    before,
    limit,
  }: {
    iss: string | null
    before: Pick<IssuerLogoutRecord, 'id' | 'requestedAt'> | null
    limit: number
  },
): Promise<readonly IssuerLogoutRecord[]> {
  const { rows } = await db.query<IssuerLogoutRecord>({
    text: LIST_ISSUER_LOGOUTS,
    values: [iss, before?.requestedAt ?? null, before?.id ?? null, limit],
  })
  return rows
}

const CANCEL_ISSUER_LOGOUT = `
  update issuer_logouts set state = 'cancelled', ended_at = now(), reached = ''
   where event_id = $1 and state = 'running' returning planned`

// Subjects that are in the event log already are still logged out, even if they are not planned yet. Late subjects are not.
const FORGET_LATE = 'delete from issuer_logouts_late where event_id = $1'

// Journals the event as if it were just planned, so that projectors look at the ended logout again.
const JOURNAL_END = journalPlanned({ at: 'now()', eventIds: 'array[$1::uuid]' })

/** Writes the end of an issuer logout to the journal, in the transaction that ends it. */
export async function journalEnd(transaction: Queryable, id: string): Promise<void> {
  await transaction.query({ name: 'journal_end', text: JOURNAL_END, values: [id] })
}

/**
 * Cancels an issuer logout. It takes no more subjects; the logouts of subjects that it already took continue. An issuer logout
 * that has ended stays unchanged.
 *
 * @param cancelledBy name of the credential.
 * @returns the issuer logout after the call, or null if there is none with this id.
 */
export async function cancelIssuerLogout(
  db: Database,
  { id, cancelledBy }: { id: string; cancelledBy: string },
): Promise<IssuerLogoutRecord | null> {
  return withTransaction(db, async (transaction) => {
    const { rows } = await transaction.query<{ planned: number }>({
      name: 'cancel_issuer_logout',
      text: CANCEL_ISSUER_LOGOUT,
      values: [id],
    })
    const [row] = rows
    if (row !== undefined) {
      await transaction.query({ text: FORGET_LATE, values: [id] })
      await journalEnd(transaction, id)
    }
    const record = await findIssuerLogout(transaction, id)
    if (row !== undefined && record !== null) {
      const { givenId, issuer } = record
      await writeAudit(transaction, {
        credential: cancelledBy,
        action: 'issuer_logout.cancelled',
        object: `/v1/issuer-logouts/${givenId}${issuer === null ? '' : `?issuer=${issuer}`}`,
        detail: { done: row.planned },
      })
    }
    return record
  })
}

const FAIL_ISSUER_LOGOUT = `
  update issuer_logouts set state = 'failed', ended_at = now(), failure = $2, reached = ''
   where event_id = $1 and state = 'running' returning planned`

/**
 * Fails an issuer logout that cannot continue. Subjects whose session is posted late are still logged out; other remaining
 * subjects are not. An issuer logout that has ended stays unchanged.
 */
export async function failIssuerLogout(
  db: Database,
  { id, failure }: { id: string; failure: string },
): Promise<void> {
  await withTransaction(db, async (transaction) => {
    const { rows } = await transaction.query<{ planned: number }>({
      name: 'fail_issuer_logout',
      text: FAIL_ISSUER_LOGOUT,
      values: [id, failure],
    })
    const [row] = rows
    if (row === undefined) return
    await journalEnd(transaction, id)
    await writeAudit(transaction, {
      credential: BOOKKEEPER,
      action: 'issuer_logout.failed',
      object: `/v1/issuer-logouts/${id}`,
      detail: { done: row.planned, failure },
    })
  })
}
