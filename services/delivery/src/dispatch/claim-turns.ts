import { type BindingId, type InFlightDelivery, type Issuer, interleave } from '@curfew/domain'
import type { RegistryCache } from '../intake/registry-cache.ts'
import type { BindingQueue } from './binding-queue.ts'

type Place = readonly [BindingId, BindingQueue]

/** The order of bindings in a claim. Issuers take turns, and so do the bindings of every issuer. */
export interface ClaimTurns {
  /** The binding queues in the order of the claim. Queues that the last claim left short come first. */
  inOrder(queues: Iterable<Place>): readonly Place[]
  /** Notes that a binding queue got all that it asked for. */
  filled(id: BindingId, queue: BindingQueue): void
  /** Among bindings without a queue here, the claim starts after this binding. 0 starts with the first. */
  readonly after: number
  /** Bindings without a queue that a claim must leave out because their issuers had their turn. */
  resting(): Iterable<BindingId>
  /**
   * Notes the deliveries claimed for bindings without a queue.
   *
   * @param full whether the ledger may have more of them.
   */
  claimed(unknown: readonly InFlightDelivery[], full: boolean): void
}

export function createClaimTurns(registry: Pick<RegistryCache, 'current'>): ClaimTurns {
  /** The last fully served binding of every issuer. */
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

/** The list, rotated to start with the first item for which `begins` holds. */
function from<Item>(items: readonly Item[], begins: (item: Item) => boolean): readonly Item[] {
  const place = items.findIndex(begins)
  return place <= 0 ? items : [...items.slice(place), ...items.slice(0, place)]
}

/** The last binding of a claim that went upwards from `after` and then continued from the lowest id. */
function lastOfRound(unknown: readonly InFlightDelivery[], after: number): number {
  const interactive = unknown.filter(({ event }) => event.lane === 'interactive')
  const ids = (interactive.length > 0 ? interactive : unknown).map(({ bindingId }) => bindingId as number)
  const wrapped = ids.filter((id) => id <= after)
  return (wrapped.length > 0 ? wrapped : ids).reduce((a, b) => Math.max(a, b), 0)
}
