import type { EventId, Sid, Subject } from '@curfew/domain'
import { plainArray } from '../postgres/arrays.ts'
import type { Queryable } from '../postgres/database.ts'

/**
 * SQL: the subject that a delivery names; null if it names none.
 *
 * @param own SQL: `deliveries.sub`.
 * @param withheld SQL: `deliveries.sub_withheld`.
 */
export const subjectNamed = (own = 'd.sub', withheld = 'd.sub_withheld') =>
  `case when not ${withheld} then coalesce(${own}, e.sub) end`

/**
 * SQL that stores the subject of events that name only a `sid`. Skips locked events: the transaction that has the lock stores the
 * same subject, or erases it.
 *
 * @param found SQL: ids of events, and a sub for each.
 */
const noting = (found: string) => `
  with found as (${found}),
  given as (
    select e.id, f.sub
      from found f
      join events e on e.id = f.id
     where e.sub is null and e.sid is not null and e.session_sub is null
     order by e.id
       for no key update of e skip locked
  )
  update events e set session_sub = given.sub from given where e.id = given.id`

const NOTE_SUBJECTS = noting('select id, sub from unnest($1::uuid[], $2::text[]) as g(id, sub)')

/**
 * Stores the subject of events that name only a `sid`. The index will delete the session, and an erasure of the subject must
 * still find the event.
 *
 * @param found sessions of the index, each with an event that may cover it.
 */
export async function noteSubjects(
  transaction: Queryable,
  found: readonly {
    readonly eventId: EventId
    readonly eventSub: Subject | null
    readonly eventSid: Sid | null
    readonly sub: Subject
  }[],
): Promise<void> {
  const unnamed = found.filter(({ eventSub, eventSid }) => eventSub === null && eventSid !== null)
  const subjects = [...new Map(unnamed.map(({ eventId, sub }) => [eventId, sub]))]
  if (subjects.length === 0) return
  await transaction.query({
    name: 'note_subjects',
    text: NOTE_SUBJECTS,
    values: [plainArray(subjects.map(([id]) => id)), subjects.map(([, sub]) => sub)],
  })
}

// A session at any client gives the subject, whether or not the event covers it. `offset 0` keeps each a lookup. Most events name
// a subject and need none.
const NOTE_KNOWN_SUBJECTS = noting(`
    select g.id, k.sub
      from unnest($1::uuid[]) as g(id)
      cross join lateral (
        select e.iss, e.sid from events e
         where e.id = g.id and e.sub is null and e.sid is not null and e.session_sub is null offset 0
      ) e
      join session_issuers x on x.iss = e.iss
      cross join lateral (select k.sub from session_ids k where k.issuer = x.id and k.sid = e.sid limit 1) k`)

/**
 * Stores the subject of events that were just planned, if the session index has their `sid`. The event need not cover a session.
 */
export async function noteKnownSubjects(transaction: Queryable, eventIds: readonly EventId[]): Promise<void> {
  if (eventIds.length === 0) return
  await transaction.query({
    name: 'note_known_subjects',
    text: NOTE_KNOWN_SUBJECTS,
    values: [plainArray(eventIds)],
  })
}
