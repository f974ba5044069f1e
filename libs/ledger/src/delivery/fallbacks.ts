import { hash } from 'node:crypto'
import {
  type Binding,
  type DeliveryId,
  fallbackOf,
  type InFlightDelivery,
  type OwingEvent,
  REASONS_OF_REMOVAL,
  REASONS_WITHOUT_FALLBACK,
} from '@curfew/domain'
import { plainArray } from '../postgres/arrays.ts'
import type { Queryable } from '../postgres/database.ts'
import { oweDeliveries } from '../sessions/session-states.ts'

// `successorsOf` in SQL. `offset 0` keeps each subquery a lookup: without it, the planner reads large tables as a whole.
const FALLBACKS_OF = `
  select e.id as "eventId", e.iss, e.given_id as "givenId", e.sub, e.scope, e.lane, e.accepted_at as "acceptedAt",
         d.sid, d.session_ends_at as "sessionEndsAt", f.id as "bindingId", f.names, f.widens
    from unnest($1::uuid[]) as g(id)
    cross join lateral (
      select event_id, binding_id, sid, session_ends_at, dead_letter_reason = any($3::text[]) as removed from deliveries
       where id = g.id and state = 'dead_lettered' and dead_letter_reason <> all($2::text[]) offset 0
    ) d
    join bindings b on b.id = d.binding_id
    join bindings f on f.relying_party_id = b.relying_party_id and f.registered
     and (f.fallback_for = b.kind or d.removed and f.fallback_for is null)
    join relying_parties p on p.id = f.relying_party_id and p.deleted_at is null
    cross join lateral (select * from events where id = d.event_id offset 0) e`

interface FallbackRow
  extends Omit<OwingEvent, 'id'>,
    Pick<InFlightDelivery, 'eventId' | 'sid' | 'sessionEndsAt'>,
    Pick<Binding, 'names' | 'widens'> {
  readonly bindingId: Binding['id']
}

const digest = (text: string) => hash('sha256', text)

/**
 * Owes each dead letter among these deliveries to the fallbacks of its channel. If its channel was removed, owes it to the
 * required channels that its client has now.
 *
 * @param transaction the one that ended the deliveries: no reader finds the event settled in between, and a crash loses no
 * fallback.
 */
export async function oweFallbacks(transaction: Queryable, ids: readonly DeliveryId[]): Promise<void> {
  if (ids.length === 0) return
  const { rows } = await transaction.query<FallbackRow>({
    name: 'fallbacks_of',
    text: FALLBACKS_OF,
    values: [plainArray(ids), REASONS_WITHOUT_FALLBACK, REASONS_OF_REMOVAL],
  })
  const owed = rows.flatMap(({ eventId, bindingId, names, widens, ...row }) => {
    const fallback = { id: bindingId, names, widens }
    return fallbackOf({ ...row, id: eventId }, row, fallback, digest) ?? []
  })
  await oweDeliveries(transaction, owed)
}
