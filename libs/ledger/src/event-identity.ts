import type { EventId, GivenEventId, Issuer } from '@curfew/domain'
import { plainArray, textColumn } from './arrays.ts'
import type { Database } from './database.ts'

// Outside, an event is known by its issuer and the id that the issuer gave it; in the ledger by one id.

/** An event as it is asked for. `iss` null: at any issuer. */
export interface AskedEvent {
  readonly givenId: GivenEventId
  readonly iss: Issuer | null
}

/** An event that the ledger has. */
export interface EventIdentity {
  readonly id: EventId
  readonly iss: Issuer
  /** Short name of the issuer; null where none was ever registered with this `iss`. */
  readonly issuer: string | null
}

// An event from before the id was derived may have been posted again since: the later one counts. `offset 0` keeps it a
// lookup for each: joined freely, a large table is read as a whole.
const IDENTIFY_EVENTS = `
  select asked.place::int, found.id, found.iss, i.name as issuer
    from unnest($1::uuid[], $2::text[]) with ordinality as asked(given_id, iss, place)
   cross join lateral (
     select distinct on (e.iss) e.id, e.iss from events e
      where e.given_id = asked.given_id and (asked.iss is null or e.iss = asked.iss)
      order by e.iss, e.planned_at desc offset 0
   ) found
    left join issuers i on i.iss = found.iss
   order by i.name, found.iss`

/** Which events there are of each that is asked for, in their order: one for each issuer. */
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
