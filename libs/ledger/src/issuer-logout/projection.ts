import type { JournalEntry } from '../history/journal.ts'
import { plainArray } from '../postgres/arrays.ts'
import type { Queryable } from '../postgres/database.ts'

const ANY = 'select exists (select from issuer_logouts) as any'

// `offset 0` keeps each one a lookup by primary key, never a join of whole tables.
const COUNT_PLANNED = `
  with events_of as (
    select e.parent_id from unnest($1::uuid[]) as g(id)
     cross join lateral (select parent_id from events where id = g.id and parent_id is not null offset 0) e
  ),
  deliveries_of as (
    select e.parent_id from unnest($2::uuid[]) as g(id)
     cross join lateral (select event_id from deliveries where id = g.id offset 0) d
     cross join lateral (select parent_id from events where id = d.event_id and parent_id is not null offset 0) e
  )
  update issuer_logouts l
     set planned = l.planned + (select count(*) from events_of o where o.parent_id = l.event_id),
         owed = l.owed + (select count(*) from deliveries_of o where o.parent_id = l.event_id)
   where l.event_id in (select parent_id from events_of union select parent_id from deliveries_of)`

// A replayed delivery was counted as dead. It counts by its new state instead.
const COUNT_SETTLED = `
  update issuer_logouts l
     set acknowledged = l.acknowledged + c.acknowledged, superseded = l.superseded + c.superseded,
         lapsed = l.lapsed + c.lapsed, dead = l.dead + c.dead - c.replayed
    from (
      select e.parent_id, count(*) filter (where g.state = 'acknowledged') as acknowledged,
             count(*) filter (where g.state = 'superseded') as superseded,
             count(*) filter (where g.state = 'lapsed') as lapsed,
             count(*) filter (where g.state = 'dead_lettered') as dead,
             count(*) filter (where g.generation > 0) as replayed
        from unnest($1::uuid[], $2::text[], $3::int[]) as g(id, state, generation)
       cross join lateral (select event_id from deliveries where id = g.id offset 0) d
       cross join lateral (select parent_id from events where id = d.event_id and parent_id is not null offset 0) e
       group by e.parent_id
    ) c
   where l.event_id = c.parent_id`

/** Projects the progress of their parts into issuer logouts. */
export async function projectIssuerLogouts(
  transaction: Queryable,
  entries: readonly JournalEntry[],
): Promise<void> {
  const { rows: known } = await transaction.query<{ any: boolean }>({ name: 'any_issuer_logouts', text: ANY })
  if (known[0]?.any !== true) return
  const planned = entries.flatMap((entry) => (entry.kind === 'planned' ? [entry] : []))
  const settled = entries.flatMap((entry) => (entry.kind === 'settled' ? entry.settled : []))
  if (planned.length > 0) {
    await transaction.query({
      name: 'count_planned',
      text: COUNT_PLANNED,
      values: [
        plainArray(planned.flatMap(({ eventIds }) => eventIds)),
        plainArray(planned.flatMap(({ owed }) => owed.map(({ id }) => id))),
      ],
    })
  }
  if (settled.length > 0) {
    await transaction.query({
      name: 'count_settled',
      text: COUNT_SETTLED,
      values: [
        plainArray(settled.map(({ id }) => id)),
        plainArray(settled.map(({ state }) => state)),
        plainArray(settled.map(({ generation }) => generation)),
      ],
    })
  }
}
