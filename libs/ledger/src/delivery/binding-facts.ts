import type { BindingId, BindingPromise, ClientId } from '@curfew/domain'
import { plainArray } from '../postgres/arrays.ts'
import type { Queryable } from '../postgres/database.ts'
import { WITHIN_MS } from '../sla/figures.ts'

/** A binding as the SLA and receipts describe it: its channel, and the promise for its deliveries. */
export interface BindingFacts extends BindingPromise {
  readonly id: BindingId
  readonly clientId: ClientId
  /** The kind of its channel. */
  readonly channel: string
  /** The kind of the channel that it is a fallback for; null if it is required. */
  readonly fallbackFor: string | null
  readonly endpoint: string
  /** Null if its relying party has only ever had one channel. */
  readonly several: SeveralChannels | null
}

/**
 * How the SLA counts the logouts of a relying party that has, or once had, several channels.
 *
 * The rule of a logout never changes. Bindings stay for good, a binding keeps the revision that first registered it, and an event
 * keeps the revision that it was planned at.
 */
export interface SeveralChannels {
  /** The relying party's first binding. A logout that counts as a whole counts there. */
  readonly countsAt: BindingId
  /** The channel of that binding: the only one of the relying party before `since`. */
  readonly channel: string
  /** The registry's revision that brought the second channel. Logouts planned before it count by delivery. */
  readonly since: number
}

const BINDING_FACTS = `
  select b.id, b.kind as channel, b.fallback_for as "fallbackFor", b.endpoint, b.counts, p.client_id as "clientId",
         ${WITHIN_MS} as "withinMs",
         case when second.since is not null
              then json_build_object('countsAt', first.id, 'channel', first.kind, 'since', second.since) end as several
    from bindings b
    join relying_parties p on p.id = b.relying_party_id
    join issuers i on i.name = p.issuer
    cross join lateral (
      select s.id, s.kind from bindings s where s.relying_party_id = p.id order by s.id limit 1
    ) first
    cross join lateral (
      select min(s.revision) as since from bindings s where s.relying_party_id = p.id and s.kind <> first.kind
    ) second
   where b.id = any($1::bigint[])`

/** Reads the bindings that exist among `ids`. A binding that is not registered any more exists as long as deliveries name it. */
export async function readBindingFacts(
  db: Queryable,
  ids: ReadonlySet<BindingId>,
): Promise<ReadonlyMap<BindingId, BindingFacts>> {
  if (ids.size === 0) return new Map()
  const { rows } = await db.query<BindingFacts>({
    name: 'binding_facts',
    text: BINDING_FACTS,
    values: [plainArray([...ids])],
  })
  return new Map(rows.map((binding) => [binding.id, binding]))
}
