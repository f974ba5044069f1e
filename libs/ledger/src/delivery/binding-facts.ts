import type { BindingId, BindingPromise, ClientId } from '@curfew/domain'
import { plainArray } from '../postgres/arrays.ts'
import type { Queryable } from '../postgres/database.ts'
import { WITHIN_MS } from '../sla/sla.ts'

/** What deliveries go to, and what is promised for them. */
export interface BindingFacts extends BindingPromise {
  readonly id: BindingId
  readonly clientId: ClientId
  /** The kind of its channel. */
  readonly channel: string
  /** The kind of the channel that it stands in for; null: it is required. */
  readonly fallbackFor: string | null
  readonly endpoint: string
  /** The first binding of its relying party, where that has bindings of several channels; null where it has not. */
  readonly countsAt: BindingId | null
}

const BINDING_FACTS = `
  select b.id, b.kind as channel, b.fallback_for as "fallbackFor", b.endpoint, b.counts, p.client_id as "clientId",
         ${WITHIN_MS} as "withinMs",
         (select min(s.id) from bindings s where s.relying_party_id = b.relying_party_id
          having min(s.kind) <> max(s.kind)) as "countsAt"
    from bindings b
    join relying_parties p on p.id = b.relying_party_id
    join issuers i on i.name = p.issuer
   where b.id = any($1::bigint[])`

/** These bindings, as far as they are there: also those that are registered no more, as long as deliveries name them. */
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
