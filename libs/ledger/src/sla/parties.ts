import {
  type BindingId,
  type DeliveryId,
  deliveryIdRange,
  type PartyDelivery,
  partyVerdict,
} from '@curfew/domain'
import { plainArray } from '../postgres/arrays.ts'
import type { Queryable } from '../postgres/database.ts'

// Logouts at relying parties with several channels. Each counts once, in the rollups of the relying party's first binding. A
// decided logout is never decided again.

/** A delivery to such a relying party, from the journal. */
export interface PartyEntry {
  readonly id: DeliveryId
  /** The first binding of its relying party. */
  readonly countsAt: BindingId
  readonly acceptedMs: number
}

/** A logout at such a relying party. */
export interface PartyLogout {
  readonly bindingId: BindingId
  readonly acceptedMs: number
}

// `offset 0` keeps each subquery a lookup: without it, the planner reads large tables as a whole.
const PLANNED_BEFORE = `
  select given.id
    from unnest($1::uuid[], $2::bigint[]) as given(id, since)
    cross join lateral (select event_id from deliveries where id = given.id offset 0) d
    cross join lateral (select registry_revision from events where id = d.event_id offset 0) e
   where e.registry_revision < given.since`

/**
 * Finds the deliveries of logouts that were planned before the relying party had its second channel.
 *
 * @param deliveries `since`: the registry's revision that brought the second channel.
 */
export async function plannedBefore(
  transaction: Queryable,
  deliveries: readonly { readonly id: DeliveryId; readonly since: number }[],
): Promise<ReadonlySet<DeliveryId>> {
  if (deliveries.length === 0) return new Set()
  const { rows } = await transaction.query<{ id: DeliveryId }>({
    name: 'sla_planned_before',
    text: PLANNED_BEFORE,
    values: [plainArray(deliveries.map(({ id }) => id)), plainArray(deliveries.map(({ since }) => since))],
  })
  return new Set(rows.map(({ id }) => id))
}

const PLANNED = `
  insert into sla_logouts as l (event_id, binding_id, accepted_ms, planned)
  select distinct on (1, 2) d.event_id, given.counts_at, given.accepted_ms, true
    from unnest($1::uuid[], $2::bigint[], $3::bigint[]) as given(id, counts_at, accepted_ms)
    join deliveries d on d.id = given.id
  on conflict (event_id, binding_id) do update set planned = true where not l.planned
  returning binding_id as "bindingId", accepted_ms as "acceptedMs"`

/** Records planned deliveries. @returns the logouts that had no planned delivery before. */
export async function notePlanned(
  transaction: Queryable,
  entries: readonly PartyEntry[],
): Promise<readonly PartyLogout[]> {
  const values = columns(entries)
  return (await transaction.query<PartyLogout>({ name: 'sla_logouts_planned', text: PLANNED, values })).rows
}

// Reads the deliveries by binding of the relying party, not by event alone: an event may owe thousands to other relying parties.
const UNDECIDED = `
  select l.event_id as "eventId", l.counts_at as "bindingId", l.accepted_ms as "acceptedMs", b.kind as channel,
         b.fallback_for as "fallbackFor", b.counts, d.sid, d.state, d.level, d.generation,
         (extract(epoch from d.settled_at) * 1000)::float8 - l.accepted_ms as "elapsedMs"
    from (
      select distinct on (1, 2) d.event_id, given.counts_at, given.accepted_ms, given.low, given.high
        from unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::uuid[], $5::uuid[])
             as given(id, counts_at, accepted_ms, low, high)
        join deliveries d on d.id = given.id
       where not exists (
         select from sla_logouts l where l.event_id = d.event_id and l.binding_id = given.counts_at and l.decided)
    ) l
    join bindings first on first.id = l.counts_at
    join bindings b on b.relying_party_id = first.relying_party_id
    join lateral (
      select * from deliveries w
       where w.id between l.low and l.high and w.event_id = l.event_id and w.binding_id = b.id offset 0
    ) d on true`

const DECIDED = `
  insert into sla_logouts as l (event_id, binding_id, accepted_ms, decided)
  select *, true from unnest($1::uuid[], $2::bigint[], $3::bigint[])
  on conflict (event_id, binding_id) do update set decided = true`

/** A logout with the decision whether the promise was kept. */
export interface DecidedLogout extends PartyLogout {
  readonly kept: boolean
  /** From acceptance to the last acknowledgement that decided it, in milliseconds; null without one. */
  readonly elapsedMs: number | null
}

interface UndecidedRow extends Omit<PartyDelivery, 'withinMs'>, PartyLogout {
  readonly eventId: string
}

/**
 * Decides the logouts of settled deliveries by the states of all their deliveries. Fallbacks are among these: the settlement that
 * makes a dead letter plans its fallback as well.
 *
 * @param withinMs the promise, by the first binding of the relying party.
 * @returns the logouts that this call decides.
 */
export async function decideSettled(
  transaction: Queryable,
  entries: readonly PartyEntry[],
  withinMs: (bindingId: BindingId) => number,
): Promise<readonly DecidedLogout[]> {
  const ranges = entries.map(({ id }) => deliveryIdRange(id))
  const { rows } = await transaction.query<UndecidedRow>({
    name: 'sla_logouts_undecided',
    text: UNDECIDED,
    values: [
      ...columns(entries),
      plainArray(ranges.map(([low]) => low)),
      plainArray(ranges.map(([, high]) => high)),
    ],
  })
  const logouts = Map.groupBy(rows, ({ eventId, bindingId }) => `${eventId} ${bindingId}`)
  const decided = [...logouts.values()].flatMap(([first, ...others]) => {
    if (first === undefined) return []
    const promise = { withinMs: withinMs(first.bindingId) }
    const { verdict, elapsedMs } = partyVerdict([first, ...others].map((row) => ({ ...row, ...promise })))
    const { eventId, bindingId, acceptedMs } = first
    return verdict === 'open' ? [] : [{ eventId, bindingId, acceptedMs, kept: verdict === 'kept', elapsedMs }]
  })
  if (decided.length > 0) {
    await transaction.query({
      name: 'sla_logouts_decided',
      text: DECIDED,
      values: [
        plainArray(decided.map(({ eventId }) => eventId)),
        plainArray(decided.map(({ bindingId }) => bindingId)),
        plainArray(decided.map(({ acceptedMs }) => acceptedMs)),
      ],
    })
  }
  return decided
}

function columns(entries: readonly PartyEntry[]): readonly string[] {
  return [
    plainArray(entries.map(({ id }) => id)),
    plainArray(entries.map(({ countsAt }) => countsAt)),
    plainArray(entries.map(({ acceptedMs }) => acceptedMs)),
  ]
}
