import type { BindingId, DeliveryId, InFlightDelivery, Issuer } from '@curfew/domain'
import { isDown } from './appetite.ts'
import type { BindingLimits } from './binding-limits.ts'
import { BindingQueue } from './binding-queue.ts'
import { type Bounds, IssuerShares } from './issuer-shares.ts'

/** Longest that the way in waits for attempts to catch up, in milliseconds: it shares the processor with them. */
export const ROOM_WAIT_MS = 50

export interface HoldingsDeps extends Bounds {
  readonly limits: Pick<BindingLimits, 'of'>
  /** Uniform in [0, 1). */
  readonly random: () => number
}

/** What this worker has leased, from the lease to the ledger's having the outcome: one line for each binding, so that no RP waits for another. */
export class Holdings {
  readonly queues = new Map<BindingId, BindingQueue>()
  readonly shares: IssuerShares
  /** Deliveries of which the ledger is being told that they are given back. */
  readonly releasing = new Set<DeliveryId>()
  readonly #deps: HoldingsDeps
  readonly #ids = new Set<DeliveryId>()
  readonly #waiters = new Set<{ readonly atHeld: number; resolve(): void }>()

  constructor(deps: HoldingsDeps) {
    this.#deps = deps
    this.shares = new IssuerShares(deps)
  }

  /** How many more may be held, of all bindings together. */
  get free(): number {
    return Math.max(0, this.#deps.heldMax - this.shares.held)
  }

  /** How many bindings are known to be down. */
  get open(): number {
    return [...this.queues.values()].filter(isDown).length
  }

  /** Whether a binding is known to be unavailable. */
  isUnavailable(id: BindingId): boolean {
    const queue = this.queues.get(id)
    return queue !== undefined && isDown(queue)
  }

  /** What is held, or being given back. */
  ids(): readonly DeliveryId[] {
    return [...this.#ids, ...this.releasing]
  }

  /** The line of a binding, which begins with the first delivery. */
  queueOf(id: BindingId, issuer: Issuer): BindingQueue {
    const known = this.queues.get(id)
    if (known !== undefined) return known
    const { limits, monotonicMs, random } = this.#deps
    const queue = new BindingQueue({ issuer, limits: () => limits.of(id), monotonicMs, random })
    this.queues.set(id, queue)
    return queue
  }

  /** Forgets a line of which nothing needs to be remembered. */
  forgetQuiet(id: BindingId, queue: BindingQueue): void {
    if (queue.quiet) this.queues.delete(id)
  }

  hold({ id, event }: InFlightDelivery): void {
    this.shares.hold(event.iss, 1)
    this.#ids.add(id)
  }

  /** These deliveries of one issuer are not held any more. */
  drop(issuer: Issuer, ids: readonly DeliveryId[]): void {
    for (const id of ids) this.#ids.delete(id)
    this.shares.hold(issuer, -ids.length)
    for (const waiter of this.#waiters) if (this.shares.held <= waiter.atHeld) waiter.resolve()
  }

  /** Drops what has not been started: its lease is lost, or given back by others. */
  clear(): void {
    for (const [id, queue] of this.queues) {
      const dropped = queue.takeWaiting().map(({ delivery }) => delivery.id)
      this.drop(queue.issuer, dropped)
      this.forgetQuiet(id, queue)
    }
  }

  /**
   * Resolves when there is room for a batch, or after `ms`: never longer, for the way in waits for no RP. What is held for
   * RPs that have not ended an attempt within the last `ms` is not counted: waiting would not make room.
   *
   * @param issuers whose deliveries count. Default: all.
   */
  async waitForRoom(ms: number, issuers?: ReadonlySet<Issuer>): Promise<void> {
    const nowMs = this.#deps.monotonicMs()
    const moving = [...this.queues.values()].filter(
      ({ endedMs, issuer }) => nowMs - endedMs <= ms && (issuers?.has(issuer) ?? true),
    )
    const excess = moving.reduce((sum, queue) => sum + queue.inHand, 0) - this.#deps.heldMax / 2
    if (excess > 0) await this.#until(this.shares.held - excess, ms)
  }

  /** Resolves when no attempt is running. */
  async idle(): Promise<void> {
    if (this.shares.held > 0) await this.#until(0)
  }

  /** Resolves when no more than `atHeld` are held, or after `ms`. */
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
