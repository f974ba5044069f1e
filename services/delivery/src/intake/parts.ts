import type { Issuer, LogoutEvent } from '@curfew/domain'
import type { Registry } from '@curfew/ledger'

/** Deliveries planned in one statement, where several events share it. An event with more has a statement of its own. */
export const PLAN_DELIVERIES = 2_000

/** Events that are planned in one statement. */
export interface Part<Incoming> {
  readonly events: readonly Incoming[]
  /** Of the first. */
  readonly issuer: Issuer
  /** Deliveries that they owe, about. */
  readonly size: number
}

/**
 * Splits a batch by the deliveries that its events owe, those that owe the least first: another issuer's logout does not wait for
 * a fan-out to thousands. Events of one key stay in order.
 */
export function partsOf<
  Incoming extends { readonly event: LogoutEvent; readonly record: { readonly key: string } },
>(batch: readonly Incoming[], registry: Registry): readonly Part<Incoming>[] {
  const byKey = [...Map.groupBy(batch, ({ record }) => record.key).values()].map((events) => ({
    events,
    size: events.reduce((sum, { event }) => sum + owedBy(event, registry), 0),
  }))
  const parts: { events: Incoming[]; issuer: Issuer; size: number }[] = []
  const inOrder = byKey.toSorted((a, b) => a.size - b.size).flatMap(({ events }) => events)
  for (const one of inOrder) {
    const size = owedBy(one.event, registry)
    const last = parts.at(-1)
    if (last === undefined || last.size + size > PLAN_DELIVERIES)
      parts.push({ events: [one], issuer: one.event.iss, size })
    else {
      last.events.push(one)
      last.size += size
    }
  }
  return parts
}

/** How many bindings an event is for at most. Where the session index names several sessions of a client, it owes more. */
function owedBy({ iss, scope, clients }: LogoutEvent, { issuers }: Registry): number {
  if (scope === 'issuer') return 0
  const registered = issuers.get(iss)?.bindings.length ?? 0
  return clients === null ? registered : Math.min(clients.length, registered)
}

export function issuersOf(events: readonly { readonly event: LogoutEvent }[]): ReadonlySet<Issuer> {
  return new Set(events.map(({ event }) => event.iss))
}
