import type { BindingId, DeliveryId, Level } from '@curfew/domain'
import { journalSettled, withAcceptance } from '../history/journal.ts'
import { plainArray } from '../postgres/arrays.ts'
import { type Database, withTransaction } from '../postgres/database.ts'
import { oweSuccessors } from './successors.ts'

// Deliveries of pull channels. No worker claims them: the relying party's own acknowledgement settles them, or the end of the offer.

/** The deliveries that a relying party has fetched. */
export interface Fetched {
  readonly bindingId: BindingId
  readonly deliveryIds: readonly DeliveryId[]
  readonly level: Level
  /** A machine word for what the acknowledgement rests on, such as `applied_to:4711`. */
  readonly evidence: string
}

// A delivery that was settled meanwhile stays as it is. The rows are locked in the order of their ids, as everywhere.
const ACKNOWLEDGE = `
  with given as (
    select d.id, g.level, g.evidence
      from unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[]) as g(id, binding_id, level, evidence)
      join deliveries d on d.id = g.id and d.binding_id = g.binding_id
     where d.state = 'offered' order by d.id for update of d
  ),
  acknowledged as (
    update deliveries d
       set state = 'acknowledged', due_at = null, settled_at = now(), level = given.level, evidence = given.evidence
      from given
     where d.id = given.id
    returning d.id, d.event_id, d.binding_id, d.state, d.level, d.generation
  ),
  journalled as (
    ${journalSettled(withAcceptance('acknowledged'), 'now()', 'd.level')}
  )
  select id from acknowledged`

/** Settles offered deliveries that their relying parties have fetched. @returns the ids of those that were still offered. */
export async function acknowledgeFetched(
  db: Database,
  fetched: readonly Fetched[],
): Promise<readonly DeliveryId[]> {
  const each = fetched.flatMap(({ deliveryIds, ...how }) => deliveryIds.map((id) => ({ ...how, id })))
  if (each.length === 0) return []
  const { rows } = await db.query<{ id: DeliveryId }>({
    name: 'acknowledge_fetched',
    text: ACKNOWLEDGE,
    values: [
      plainArray(each.map(({ id }) => id)),
      plainArray(each.map(({ bindingId }) => bindingId)),
      plainArray(each.map(({ level }) => level)),
      each.map(({ evidence }) => evidence),
    ],
  })
  return rows.map(({ id }) => id)
}

// Finds the bindings with offers by skipping through the index from one to the next, as a claim does. A binding that is not registered
// any more offers nothing, so its deliveries end at once.
const END_OFFERS = `
  with recursive waiting as (
    (select binding_id, lane from deliveries where due_at is not null order by binding_id, lane limit 1)
    union all
    select later.binding_id, later.lane
      from waiting w
      cross join lateral (
        select d.binding_id, d.lane from deliveries d
         where d.due_at is not null and (d.binding_id, d.lane) > (w.binding_id, w.lane)
         order by d.binding_id, d.lane limit 1
      ) later
  ),
  over as (
    select d.id, b.offer->>'onDeadline' as ends
      from waiting w
      join bindings b on b.id = w.binding_id and b.offer is not null
      cross join lateral (
        select id from deliveries
         where binding_id = w.binding_id and lane = w.lane and (due_at <= now() or not b.registered) and state = 'offered'
         order by due_at limit $1
           for update skip locked
      ) d
     limit $1
  ),
  ended as (
    update deliveries d
       set state = over.ends, due_at = null, settled_at = now(),
           dead_letter_reason = case over.ends when 'dead_lettered' then 'not_fetched' end
      from over
     where d.id = over.id
    returning d.id, d.event_id, d.binding_id, d.state, d.generation
  ),
  journalled as (
    ${journalSettled(withAcceptance('ended'), 'now()')}
  )
  select id, state from ended`

/**
 * Ends the offers whose time is over: each delivery lapses or becomes a dead letter, as its channel says. Owes the fallbacks of the
 * dead letters in the same transaction.
 *
 * @param limit most deliveries.
 * @returns the ids of the ended deliveries.
 */
export async function endOffers(db: Database, { limit }: { limit: number }): Promise<readonly DeliveryId[]> {
  return withTransaction(db, async (transaction) => {
    const { rows } = await transaction.query<{ id: DeliveryId; state: string }>({
      name: 'end_offers',
      text: END_OFFERS,
      values: [limit],
    })
    await oweSuccessors(
      transaction,
      rows.flatMap(({ id, state }) => (state === 'dead_lettered' ? [id] : [])),
    )
    return rows.map(({ id }) => id)
  })
}
