import { askedAtOf, type ClientId, type LogoutEvent, type Occurrence, occurrenceOf } from '@curfew/domain'
import type { Queryable } from '../postgres/database.ts'
import { beganBy } from '../sessions/order.ts'
import { knowsAll } from '../sessions/quotas.ts'

// What a logout of everyone is about is counted one partition of the index after the other: each statement is short, and whoever
// is in one partition is in no other.

const PARTITIONS = Array.from({ length: 16 }, (_, number) => `sessions_${number}`)

/** SQL: an issuer logout as `e`, by the parameters that `timesOf` gives. */
export const EVERYONE_AT =
  '(select $2::timestamptz as occurred_at, $5::boolean as occurred_stated, $6::timestamptz as asked_at) e'
/** What `EVERYONE_AT` needs: $2, $5 and $6. */
export const timesOf = (event: Occurrence) =>
  [occurrenceOf(event), event.occurredAt !== null, askedAtOf(event)] as const
/** The subjects of which each gets an event of its own: $1 is the issuer's number. */
const BEGAN = `s.issuer = $1 and ${beganBy()} and s.expires_at > now()`
// Where the index is not complete, a client that is named may hold a session of which it does not know.
/** Of a session `s`: whether the clients that the event names, $n, leave it out for certain; `complete`: $n + 1. */
export const meant = (clients: number, complete: number) =>
  `($${clients}::text[] is null or not $${complete}::boolean or s.client_id = any($${clients}::text[]))`

const countSubjects = (partition: string) => `
  select count(*) as subjects from (select s.sub from ${partition} s, ${EVERYONE_AT} where ${BEGAN} and ${meant(3, 4)} group by s.sub) subjects`
const COUNT_SUBJECTS = PARTITIONS.map(countSubjects)

const countByClient = (partition: string) => `
  select s.client_id as "clientId", count(*) as sessions, count(distinct s.sub) as subjects from ${partition} s, ${EVERYONE_AT}
   where ${BEGAN} and ($3::text[] is null or s.client_id = any($3)) and ($4::text is null or s.client_id <> $4)
   group by s.client_id`
const COUNT_BY_CLIENT = PARTITIONS.map(countByClient)

/** An issuer whose sessions the index knows. */
export interface IndexedIssuer {
  /** Its number in the index. */
  readonly index: number
  /** Whether the index knows all its sessions. */
  readonly complete: boolean
}

/** How many subjects a logout of everyone is about. */
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
  /** On what knowledge it would be planned. */
  readonly basis: 'sessions' | 'registered' | 'unknown_issuer'
  readonly subjects: number
  readonly sessions: number
  /** The most sessions first. */
  readonly byClient: readonly ClientCount[]
}

/** What a logout of everyone would touch now. */
export async function previewIssuerLogout(db: Queryable, event: LogoutEvent): Promise<IssuerLogoutPreview> {
  const { rows } = await db.query<{ index: number | null; use: string; complete: boolean }>(INDEXED_ISSUER, [
    event.iss,
  ])
  const [issuer] = rows
  const nobody = { subjects: 0, sessions: 0, byClient: [] }
  if (issuer === undefined) return { basis: 'unknown_issuer', ...nobody }
  const { index, use, complete } = issuer
  if (index === null || use === 'off') return { basis: 'registered', ...nobody }
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
