import type { BindingId, DeliveryId, InFlightDelivery, Issuer } from '@curfew/domain'
import { isUnavailable } from './appetite.ts'
import type { BindingLimits } from './binding-limits.ts'
import { BindingQueue } from './binding-queue.ts'
import { type Bounds, IssuerShares } from './issuer-shares.ts'

/** The longest time that intake waits for attempts to catch up, in milliseconds. Intake and attempts share the processor. */
export const ROOM_WAIT_MS = 50

export interface HoldingsDeps extends Bounds {
  readonly limits: Pick<BindingLimits, 'of'>
  /** Uniform in [0, 1). */
  readonly random: () => number
}

/**
 * The deliveries leased to this worker, from the lease until the ledger has stored the outcome. Every binding has its own queue,
 * so that no RP waits for another.
 */
export class Holdings {
  readonly queues = new Map<BindingId, BindingQueue>()
  readonly shares: IssuerShares
  /** Deliveries whose release is being written to the ledger. */
  readonly releasing = new Set<DeliveryId>()
  readonly #deps: HoldingsDeps
  readonly #ids = new Set<DeliveryId>()
  readonly #waiters = new Set<{ readonly atHeld: number; resolve(): void }>()

  constructor(deps: HoldingsDeps) {
    this.#deps = deps
    this.shares = new IssuerShares(deps)
  }

  /** The number of deliveries, of all bindings, that may still be held. */
  get free(): number {
    return Math.max(0, this.#deps.heldMax - this.shares.held)
  }

  /** The number of bindings that are known to be unavailable. */
  get open(): number {
    return [...this.queues.values()].filter(isUnavailable).length
  }

  /** Whether a binding is known to be unavailable. */
  isUnavailable(id: BindingId): boolean {
    const queue = this.queues.get(id)
    return queue !== undefined && isUnavailable(queue)
  }

  /** The deliveries that are held or being given back. */
  ids(): readonly DeliveryId[] {
    return [...this.#ids, ...this.releasing]
  }

  /** The queue of a binding, created at its first delivery. */
  queueOf(id: BindingId, issuer: Issuer): BindingQueue {
    const known = this.queues.get(id)
    if (known !== undefined) return known
    const { limits, monotonicMs, random } = this.#deps
    const queue = new BindingQueue({ issuer, limits: () => limits.of(id), monotonicMs, random })
    this.queues.set(id, queue)
    return queue
  }

  /** Forgets a binding queue that has no state to remember. */
  forgetQuiet(id: BindingId, queue: BindingQueue): void {
    if (queue.quiet) this.queues.delete(id)
  }

  hold({ id, event }: InFlightDelivery): void {
    this.shares.hold(event.iss, 1)
    this.#ids.add(id)
  }

  /** Removes deliveries of one issuer that are not held any more. */
  drop(issuer: Issuer, ids: readonly DeliveryId[]): void {
    for (const id of ids) this.#ids.delete(id)
    this.shares.hold(issuer, -ids.length)
    for (const waiter of this.#waiters) if (this.shares.held <= waiter.atHeld) waiter.resolve()
  }

  /** Drops deliveries that have not started: their leases are lost or given back. */
  clear(): void {
    for (const [id, queue] of this.queues) {
      const dropped = queue.takeWaiting().map(({ delivery }) => delivery.id)
      this.drop(queue.issuer, dropped)
      this.forgetQuiet(id, queue)
    }
  }

  /**
   * Resolves when there is room for a batch, but after `ms` at the latest: intake does not wait for an RP. Deliveries to RPs that
   * ended no attempt within the last `ms` do not count, because waiting would not make room.
   *
   * @param issuers the issuers whose deliveries count. Default: all.
   */
  async waitForRoom(ms: number, issuers?: ReadonlySet<Issuer>): Promise<void> {
    const nowMs = this.#deps.monotonicMs()
    const moving = [...this.queues.values()].filter(
      ({ endedMs, issuer }) => nowMs - endedMs <= ms && (issuers?.has(issuer) ?? true),
    )
    const excess = moving.reduce((sum, queue) => sum + queue.inHand, 0) - this.#deps.heldMax / 2
    if (excess > 0) await this.#until(this.shares.held - excess, ms)
  }

  /** Resolves when no delivery is held. */
  async idle(): Promise<void> {
    if (this.shares.held > 0) await this.#until(0)
  }

  /** Resolves when at most `atHeld` deliveries are held, or after `ms`. */
  async #until(atHeld: number, ms?: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    const timer = ms === undefined ? undefined : setTimeout(resolve, ms)
    const waiter = { atHeld, resolve }
    this.#waiters.add(waiter)
    await promise
    clearTimeout(timer)
    this.#waiters.delete(waiter)
  }
}
