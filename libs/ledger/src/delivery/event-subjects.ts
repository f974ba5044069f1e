import type { EventId, Sid, Subject } from '@curfew/domain'
import { plainArray } from '../postgres/arrays.ts'
import type { Queryable } from '../postgres/database.ts'

/**
 * Nobody is waited for: who has the event locked at this moment enters the same, or forgets it.
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
 * Notes whose session it is that an event names, where the event does not say so itself: the index will forget the session, and the
 * event is to be found when its subject asks to be forgotten.
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
  const holders = [...new Map(unnamed.map(({ eventId, sub }) => [eventId, sub]))]
  if (holders.length === 0) return
  await transaction.query({
    name: 'note_subjects',
    text: NOTE_SUBJECTS,
    values: [plainArray(holders.map(([id]) => id)), holders.map(([, sub]) => sub)],
  })
}

// Of any client, whether or not the event is about it: each is a lookup (offset 0), and most events name a subject.
const NOTE_KNOWN_SUBJECTS = noting(`
    select g.id, k.sub
      from unnest($1::uuid[]) as g(id)
      cross join lateral (
        select e.iss, e.sid from events e
         where e.id = g.id and e.sub is null and e.sid is not null and e.session_sub is null offset 0
      ) e
      join session_issuers x on x.iss = e.iss
      cross join lateral (select k.sub from session_ids k where k.issuer = x.id and k.sid = e.sid limit 1) k`)

/** The same for events that have just been planned, whether or not they cover what their subject has: the index may know it by then. */
export async function noteKnownSubjects(transaction: Queryable, eventIds: readonly EventId[]): Promise<void> {
  if (eventIds.length === 0) return
  await transaction.query({
    name: 'note_known_subjects',
    text: NOTE_KNOWN_SUBJECTS,
    values: [plainArray(eventIds)],
  })
}
