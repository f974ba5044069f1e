import type { EventId, GivenEventId, Issuer } from '@curfew/domain'
import { plainArray, textColumn } from '../postgres/arrays.ts'
import type { Database } from '../postgres/database.ts'

// The API names an event by its issuer and the id that the issuer gave it. The ledger names it by one id.

/** An event as the caller names it. `iss` null: at any issuer. */
export interface AskedEvent {
  readonly givenId: GivenEventId
  readonly iss: Issuer | null
}

/** The identity of an event in the ledger. */
export interface EventIdentity {
  readonly id: EventId
  readonly iss: Issuer
  /** Short name of the issuer; null if this `iss` was never registered. */
  readonly issuer: string | null
}

// `offset 0` keeps this an index lookup for each id: without it, the planner reads large tables as a whole.
const IDENTIFY_EVENTS = `
  select asked.place::int, found.id, found.iss, i.name as issuer
    from unnest($1::uuid[], $2::text[]) with ordinality as asked(given_id, iss, place)
   cross join lateral (
     select e.id, e.iss from events e
      where e.given_id = asked.given_id and (asked.iss is null or e.iss = asked.iss) offset 0
   ) found
    left join issuers i on i.iss = found.iss
   order by i.name, found.iss`

/** Looks up the events of each given id, in the order of `asked`: one event for each issuer that used the id. */
export async function identifyEvents(
  db: Database,
  asked: readonly AskedEvent[],
): Promise<readonly (readonly EventIdentity[])[]> {
  const { rows } = await db.query<EventIdentity & { readonly place: number }>({
    name: 'identify_events',
    text: IDENTIFY_EVENTS,
    values: [plainArray(asked.map(({ givenId }) => givenId)), textColumn(asked.map(({ iss }) => iss))],
  })
  const byPlace = Map.groupBy(rows, ({ place }) => place)
  return asked.map((_, at) => byPlace.get(at + 1) ?? [])
}
