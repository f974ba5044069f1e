import { type Issuer, type LogoutEvent, widened } from '@curfew/domain'
import type { Registry } from '@curfew/ledger'
import { mayBeOneLogout } from './relayed.ts'

/** The most deliveries planned in one statement for several events. An event that owes more has its own statement. */
export const PLAN_DELIVERIES = 2_000

/** The events that one statement plans. */
export interface Part<Incoming> {
  readonly events: readonly Incoming[]
  /** The issuer of the first event. */
  readonly issuer: Issuer
  /** An estimate of the deliveries that the events owe. */
  readonly size: number
}

/**
 * Splits a batch by the number of deliveries that its events owe, smallest first. A fan-out to thousands therefore does not delay
 * another issuer's logout. Events of one key stay in order. Events that may be one logout, by different ways, are in different
 * parts.
 */
export function partsOf<
  Incoming extends { readonly event: LogoutEvent; readonly record: { readonly key: string } },
>(batch: readonly Incoming[], registry: Registry): readonly Part<Incoming>[] {
  const byKey = [...Map.groupBy(batch, ({ record }) => record.key).values()].map((events) => ({
    events,
    size: events.reduce((sum, { event }) => sum + owedBy(event, registry), 0),
  }))
  const hasRelayed = batch.some(({ event }) => event.relayed !== undefined)
  const parts: { events: Incoming[]; issuer: Issuer; size: number }[] = []
  const inOrder = byKey.toSorted((a, b) => a.size - b.size).flatMap(({ events }) => events)
  for (const one of inOrder) {
    const size = owedBy(one.event, registry)
    const last = parts.at(-1)
    if (last === undefined || last.size + size > PLAN_DELIVERIES || isRepeatedIn(last.events, one))
      parts.push({ events: [one], issuer: one.event.iss, size })
    else {
      last.events.push(one)
      last.size += size
    }
  }
  return parts

  function isRepeatedIn(events: readonly Incoming[], { event }: Incoming): boolean {
    return hasRelayed && events.some((other) => mayBeOneLogout(event, other.event, registry))
  }
}

/**
 * The number of bindings that an event concerns at most. It owes more deliveries if a client has several sessions in the index.
 */
function owedBy(event: LogoutEvent, { issuers }: Registry): number {
  if (event.scope === 'issuer') return 0
  const issuer = issuers.get(event.iss)
  const { clients } = widened(event, issuer?.relay)
  const registered = issuer?.bindings.length ?? 0
  return clients === null ? registered : Math.min(clients.length, registered)
}

export function issuersOf(events: readonly { readonly event: LogoutEvent }[]): ReadonlySet<Issuer> {
  return new Set(events.map(({ event }) => event.iss))
}
