import { type ClientId, type LogoutEvent, type Occurrence, occurrenceOf, requestedAtOf } from '@curfew/domain'
import type { Queryable } from '../postgres/database.ts'
import { beganBy } from '../sessions/order.ts'
import { knowsAll } from '../sessions/quotas.ts'

// The subjects of an issuer logout are counted one partition of the index after the other. So every statement is short, and no
// subject is counted twice, because all rows of a subject are in one partition.

const PARTITIONS = Array.from({ length: 16 }, (_, number) => `sessions_${number}`)

/** SQL: the times of an issuer logout as `e`, from the parameters of `timesOf`. */
export const LOGOUT_TIMES =
  '(select $2::timestamptz as occurred_at, $5::boolean as occurred_stated, $6::timestamptz as requested_at) e'
/** The parameters $2, $5 and $6 of `LOGOUT_TIMES`. */
export const timesOf = (event: Occurrence) =>
  [occurrenceOf(event), event.occurredAt !== null, requestedAtOf(event)] as const
/** SQL: whether the issuer logout ends a session `s`. $1 is the issuer's number in the index. */
const BEGAN = `s.issuer = $1 and ${beganBy()} and s.expires_at > now()`
/**
 * SQL: whether the subject of a session `s` may have a session at a client that the event names. If the index is not complete,
 * any subject may, because named clients may have sessions that the index does not know.
 *
 * @param clients the number of the parameter with the named clients.
 * @param complete the number of the parameter that says whether the index is complete.
 */
export const mayConcern = (clients: number, complete: number) =>
  `($${clients}::text[] is null or not $${complete}::boolean or s.client_id = any($${clients}::text[]))`

const countSubjects = (partition: string) => `
  select count(*) as subjects from (select s.sub from ${partition} s, ${LOGOUT_TIMES} where ${BEGAN} and ${mayConcern(3, 4)} group by s.sub) subjects`
const COUNT_SUBJECTS = PARTITIONS.map(countSubjects)

const countByClient = (partition: string) => `
  select s.client_id as "clientId", count(*) as sessions, count(distinct s.sub) as subjects from ${partition} s, ${LOGOUT_TIMES}
   where ${BEGAN} and ($3::text[] is null or s.client_id = any($3)) and ($4::text is null or s.client_id <> $4)
   group by s.client_id`
const COUNT_BY_CLIENT = PARTITIONS.map(countByClient)

/** An issuer that the session index knows. */
export interface IndexedIssuer {
  /** Its number in the index. */
  readonly index: number
  /** Whether the index knows all sessions of the issuer. */
  readonly complete: boolean
}

/** Counts the subjects of an issuer logout. */
export async function countSubjectsOf(
  db: Queryable,
  event: Occurrence & Pick<LogoutEvent, 'clients'>,
  { index, complete }: IndexedIssuer,
): Promise<number> {
  let total = 0
  const [occurredAt, ...times] = timesOf(event)
  for (const text of COUNT_SUBJECTS) {
    const values = [index, occurredAt, event.clients, complete, ...times]
    total += (await db.query<{ subjects: number }>({ text, values })).rows[0]?.subjects ?? 0
  }
  return total
}

const INDEXED_ISSUER = `
  select i.name, x.id as index, i.session_index as use, ${knowsAll('i', 'x')} as complete
    from issuers i left join session_issuers x on x.iss = i.iss
   where i.iss = $1 and i.deleted_at is null`

export interface ClientCount {
  readonly clientId: ClientId
  readonly sessions: number
  readonly subjects: number
}

export interface IssuerLogoutPreview {
  /** The basis of its plan. */
  readonly basis: 'sessions' | 'registered' | 'unknown_issuer'
  readonly subjects: number
  readonly sessions: number
  /** The client with the most sessions first. */
  readonly byClient: readonly ClientCount[]
}

/** Counts what an issuer logout would end now. */
export async function previewIssuerLogout(db: Queryable, event: LogoutEvent): Promise<IssuerLogoutPreview> {
  const { rows } = await db.query<{ index: number | null; use: string; complete: boolean }>(INDEXED_ISSUER, [
    event.iss,
  ])
  const [issuer] = rows
  const none = { subjects: 0, sessions: 0, byClient: [] }
  if (issuer === undefined) return { basis: 'unknown_issuer', ...none }
  const { index, use, complete } = issuer
  if (index === null || use === 'off') return { basis: 'registered', ...none }
  const subjects = await countSubjectsOf(db, event, { index, complete })
  const counts = new Map<ClientId, ClientCount>()
  const initiator = event.includeInitiator ? null : event.initiator
  const [occurredAt, ...times] = timesOf(event)
  for (const text of COUNT_BY_CLIENT) {
    const values = [index, occurredAt, event.clients, initiator, ...times]
    for (const row of (await db.query<ClientCount>({ text, values })).rows) {
      const { sessions, subjects } = counts.get(row.clientId) ?? { sessions: 0, subjects: 0 }
      counts.set(row.clientId, {
        ...row,
        sessions: sessions + row.sessions,
        subjects: subjects + row.subjects,
      })
    }
  }
  const byClient = [...counts.values()].toSorted(
    (a, b) => b.sessions - a.sessions || (a.clientId < b.clientId ? -1 : 1),
  )
  return {
    basis: 'sessions',
    subjects,
    sessions: byClient.reduce((sum, { sessions }) => sum + sessions, 0),
    byClient,
  }
}
