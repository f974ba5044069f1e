import { CONFIRMATION_DEADLINE_MS, type DeliveryId, deliveryIdRange, type EventId } from '@curfew/domain'
import type { JournalEntry } from '../history/journal.ts'
import { plainArray } from '../postgres/arrays.ts'
import type { Queryable } from '../postgres/database.ts'
import { clampedTime } from '../postgres/times.ts'

const ANY = `
  select exists (select from relying_parties where settings ? 'confirmation_uri') as owing,
         exists (select from confirmations where due_at is not null and attempts = 0) as waiting`

// A part of an issuer logout owes none: the client would get one for each subject. `offset 0` keeps this a lookup by primary key.
const OWE = `
  insert into confirmations (event_id, relying_party_id, deadline_at, due_at)
  select e.id, p.id, deadline.at, deadline.at
    from unnest($1::uuid[]) as given(id)
   cross join lateral (
     select id, iss, initiator, accepted_at from events
      where id = given.id and initiator is not null and scope <> 'issuer' and parent_id is null offset 0
   ) e
    join issuers i on i.iss = e.iss
    join relying_parties p
      on p.issuer = i.name and p.client_id = e.initiator and p.settings ? 'confirmation_uri' and p.deleted_at is null
   cross join lateral (
     select ${clampedTime('e.accepted_at')} + make_interval(
              secs => coalesce((p.settings ->> 'confirmation_deadline_ms')::float8, ${CONFIRMATION_DEADLINE_MS}) / 1000) as at
   ) deadline
   order by e.id
  on conflict (event_id) do nothing`

// A superseded delivery is settled, but its logout is not, until the delivery that covers it in the end is settled too.
const COVERED = `
  with recursive covered(id, event_id) as (
    select d.id, d.event_id from unnest($1::uuid[]) as given(id)
     cross join lateral (select id, event_id from deliveries where superseded_by = given.id offset 0) d
    union
    select d.id, d.event_id from covered
     cross join lateral (select id, event_id from deliveries where superseded_by = covered.id offset 0) d
  )
  select distinct event_id as "eventId" from covered`

// A confirmation that was claimed at its deadline is not changed: the sender has it.
const MAKE_DUE = `
  update confirmations c set due_at = now()
    from (
      select waiting.id
        from unnest($1::uuid[], $2::uuid[]) as given(low, high)
       cross join lateral (
         select id, event_id from confirmations
          where event_id between given.low and given.high and due_at > now() and attempts = 0 offset 0
       ) waiting
       where not exists (
         with recursive owed(settled_at, superseded_by) as (
           select settled_at, superseded_by from deliveries d
            where d.id between given.low and given.high and d.event_id = waiting.event_id
           union
           select d.settled_at, d.superseded_by from owed
            cross join lateral (
              select settled_at, superseded_by from deliveries where id = owed.superseded_by offset 0) d
         )
         select from owed where settled_at is null)
    ) settled
   where c.id = settled.id and c.attempts = 0 and c.due_at > now()`

/**
 * Owes the confirmation of each new event to the client that started it. Makes the confirmations of settled events due.
 */
export async function projectConfirmations(
  transaction: Queryable,
  entries: readonly JournalEntry[],
): Promise<void> {
  const { rows } = await transaction.query<{ owing: boolean; waiting: boolean }>({
    name: 'any_confirmations',
    text: ANY,
  })
  const [any] = rows
  const eventIds = entries.flatMap((entry) => (entry.kind === 'planned' ? entry.eventIds : []))
  if (any?.owing === true && eventIds.length > 0)
    await transaction.query({ name: 'owe_confirmations', text: OWE, values: [plainArray(eventIds)] })
  if (any?.owing !== true && any?.waiting !== true) return
  // The ids of an event and of its deliveries have the same range.
  const settled = entries.flatMap((entry) =>
    entry.kind === 'settled' ? entry.settled.map(({ id }) => id) : [],
  )
  const covered = settled.length === 0 ? [] : await coveredBy(transaction, settled)
  const ranges = new Map([...eventIds, ...settled, ...covered].map(deliveryIdRange))
  if (ranges.size === 0) return
  await transaction.query({
    name: 'make_confirmations_due',
    text: MAKE_DUE,
    values: [plainArray([...ranges.keys()]), plainArray([...ranges.values()])],
  })
}

/** The events of the deliveries that these supersede, at once or through others. */
async function coveredBy(transaction: Queryable, ids: readonly DeliveryId[]): Promise<readonly EventId[]> {
  const { rows } = await transaction.query<{ eventId: EventId }>({
    name: 'covered_events',
    text: COVERED,
    values: [plainArray(ids)],
  })
  return rows.map(({ eventId }) => eventId)
}
