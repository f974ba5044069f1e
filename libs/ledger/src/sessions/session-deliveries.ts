import type { DeliveryId, SessionDelivery } from '@curfew/domain'
import { plainArray } from '../postgres/arrays.ts'
import type { Queryable } from '../postgres/database.ts'

const SESSION_DELIVERIES = `
  select d.id as own, d.id, d.binding_id as "bindingId", d.sid, d.sub, d.state, d.level, d.settled_at as "settledAt",
         d.session_ends_at as "sessionEndsAt", null as "supersededBy",
         d.sid is null and coalesce(d.dead_letter_reason = 'later_session', false) as withheld,
         coalesce(d.dead_letter_reason = 'sub_required', false) as "lacksSubject"
    from deliveries d where d.id = any($1::uuid[])`

// A covering delivery may itself be covered by a newer one. Only an unsettled delivery can be covered, so that the chain has no
// loop.
const LAST_OF = `
  select g.id as own, l.*
    from unnest($1::uuid[]) as g(id)
    cross join lateral (
      with recursive newer as (
        select d.id, d.event_id, d.state, d.level, d.settled_at, d.session_ends_at, d.superseded_by, d.sid, d.dead_letter_reason, 0 as steps
          from deliveries d where d.id = g.id
        union all
        select n.id, n.event_id, n.state, n.level, n.settled_at, n.session_ends_at, n.superseded_by, n.sid, n.dead_letter_reason, o.steps + 1
          from newer o join deliveries n on n.id = o.superseded_by
      )
      select id, state, level, settled_at as "settledAt", session_ends_at as "sessionEndsAt",
             case when steps > 0 then event_id end as "supersededBy",
             own_sid is null and (sid is not null or coalesce(dead_letter_reason = 'later_session', false)) as withheld
        from newer cross join (select d.sid as own_sid from deliveries d where d.id = g.id) own
       order by steps desc limit 1
    ) l`

interface SessionDeliveryRow extends SessionDelivery {
  /** The id of the delivery that was asked for. The other fields may be those of the newest covering delivery. */
  readonly own: DeliveryId
}

/** Reads deliveries by their ids. A superseded delivery has the state of the newest delivery that covers it. */
export async function readSessionDeliveries(
  transaction: Queryable,
  ids: readonly DeliveryId[],
): Promise<ReadonlyMap<DeliveryId, SessionDelivery>> {
  const values = [plainArray(ids)]
  const { rows } = await transaction.query<SessionDeliveryRow>({
    name: 'session_deliveries',
    text: SESSION_DELIVERIES,
    values,
  })
  const covered = rows.filter(({ state }) => state === 'superseded').map(({ own }) => own)
  const last = covered.length === 0 ? [] : await lastOf(transaction, covered)
  const lastById = new Map(last.map((row) => [row.own, row]))
  return new Map(rows.map((row) => [row.own, { ...row, ...lastById.get(row.own) }]))
}

async function lastOf(
  transaction: Queryable,
  ids: readonly DeliveryId[],
): Promise<readonly Omit<SessionDeliveryRow, 'bindingId' | 'sid' | 'sub' | 'lacksSubject'>[]> {
  const values = [plainArray(ids)]
  return (await transaction.query<SessionDeliveryRow>({ name: 'last_of', text: LAST_OF, values })).rows
}
