import { type BindingId, type InFlightDelivery, type Issuer, interleave } from '@curfew/domain'
import type { RegistryCache } from '../intake/registry-cache.ts'
import type { BindingQueue } from './binding-queue.ts'

type Place = readonly [BindingId, BindingQueue]

/** Whose turn it is when the ledger is asked for more: issuers take turns, and the bindings of each. */
export interface ClaimTurns {
  /** The lines in the order in which they are asked for. Those that came too short the last time come first. */
  inOrder(queues: Iterable<Place>): readonly Place[]
  /** Notes that a line had its fill. */
  filled(id: BindingId, queue: BindingQueue): void
  /** Among bindings that have no line here, the claim begins behind this one. 0: with the first. */
  readonly after: number
  /** Bindings that a claim must leave out where they have no line: their issuers had their turn. */
  resting(): Iterable<BindingId>
  /**
   * Notes what was claimed for bindings that had no line.
   *
   * @param full whether there may be more than what came.
   */
  claimed(unknown: readonly InFlightDelivery[], full: boolean): void
}

export function createClaimTurns(registry: Pick<RegistryCache, 'current'>): ClaimTurns {
  /** The last binding of each issuer that had its fill. */
  const lastOf = new Map<Issuer, BindingId>()
  let lastIssuer: Issuer | null = null
  const served = new Set<Issuer>()
  let after = 0

  return {
    inOrder(queues) {
      const issuers = [...Map.groupBy(queues, ([, queue]) => queue.issuer)]
      const groups = from(issuers, ([issuer]) => issuer === lastIssuer)
      return interleave(groups.map(([issuer, places]) => from(places, ([id]) => id === lastOf.get(issuer))))
    },
    filled(id, { issuer }) {
      lastOf.set(issuer, id)
      lastIssuer = issuer
    },
    get after() {
      return after
    },
    *resting() {
      const { issuers } = registry.current()
      for (const issuer of served) for (const { id } of issuers.get(issuer)?.bindings ?? []) yield id
    },
    claimed(unknown, full) {
      if (!full) {
        served.clear()
        return
      }
      for (const { event } of unknown) served.add(event.iss)
      after = lastOfRound(unknown, after)
    },
  }
}

/** The list, beginning with the first item for which `begins` holds. */
function from<Item>(items: readonly Item[], begins: (item: Item) => boolean): readonly Item[] {
  const place = items.findIndex(begins)
  return place <= 0 ? items : [...items.slice(place), ...items.slice(0, place)]
}

/** The binding that came last in a claim that went upwards from behind `after`, and then from the beginning. */
function lastOfRound(unknown: readonly InFlightDelivery[], after: number): number {
  const interactive = unknown.filter(({ event }) => event.lane === 'interactive')
  const ids = (interactive.length > 0 ? interactive : unknown).map(({ bindingId }) => bindingId as number)
  const wrapped = ids.filter((id) => id <= after)
  return (wrapped.length > 0 ? wrapped : ids).reduce((a, b) => Math.max(a, b), 0)
}
