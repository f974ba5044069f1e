import { type Issuer, shareLeft } from '@curfew/domain'

/** The deliveries and attempts of all bindings of one issuer. */
interface Taken {
  inHand: number
  running: number
}

export interface Bounds {
  /** The most deliveries in memory. */
  readonly heldMax: number
  /** The most attempts under way. */
  readonly attemptsMax: number
  readonly monotonicMs: () => number
}

/**
 * The most that one issuer may have, as a part of its own and the free amount together. The rest is for an issuer that has
 * nothing yet.
 */
const ISSUER_PART = 3 / 4
/** How long a worker counts as shared after a delivery of a second issuer, in milliseconds. */
const LATELY_MS = 2_000

/** Counts every issuer's part of this worker's memory and attempts, so that no issuer takes all. */
export class IssuerShares {
  readonly #bounds: Bounds
  readonly #issuers = new Map<Issuer, Taken>()
  /** The issuer of the last delivery, and the time of the last change of issuer. */
  #last: Issuer | null = null
  #otherMs = Number.NEGATIVE_INFINITY
  #held = 0
  #running = 0

  constructor(bounds: Bounds) {
    this.#bounds = bounds
  }

  /** Deliveries in hand. */
  get held(): number {
    return this.#held
  }

  /** Attempts under way. */
  get running(): number {
    return this.#running
  }

  /** The attempts under way of the issuer that has the most. */
  get mostRunning(): number {
    return [...this.#issuers.values()].reduce((most, taken) => Math.max(most, taken.running), 0)
  }

  /** Whether more than one issuer had new deliveries lately. */
  get shared(): boolean {
    return this.#bounds.monotonicMs() - this.#otherMs < LATELY_MS
  }

  /** Adds to the deliveries in hand. Negative when they leave. */
  hold(issuer: Issuer, deliveries: number): void {
    if (deliveries > 0 && issuer !== this.#last) {
      if (this.#last !== null) this.#otherMs = this.#bounds.monotonicMs()
      this.#last = issuer
    }
    this.#change(issuer, deliveries, 0)
  }

  /** Adds to the attempts under way. Negative when they end. */
  run(issuer: Issuer, attempts: number): void {
    this.#change(issuer, 0, attempts)
  }

  /** The number of deliveries that an issuer may take in addition. */
  roomOf(issuer: Issuer): number {
    const inHand = this.#issuers.get(issuer)?.inHand ?? 0
    return shareLeft(inHand, this.#bounds.heldMax - this.#held, ISSUER_PART)
  }

  /** The number of deliveries that an issuer may have in hand, including those that it has. */
  partOf(issuer: Issuer): number {
    return (this.#issuers.get(issuer)?.inHand ?? 0) + this.roomOf(issuer)
  }

  /** The number of attempts that an issuer may start in addition. */
  attemptsOf(issuer: Issuer): number {
    const running = this.#issuers.get(issuer)?.running ?? 0
    return shareLeft(running, this.#bounds.attemptsMax - this.#running, ISSUER_PART)
  }

  #change(issuer: Issuer, inHand: number, attempts: number): void {
    const taken = this.#issuers.get(issuer) ?? { inHand: 0, running: 0 }
    taken.inHand += inHand
    taken.running += attempts
    this.#held += inHand
    this.#running += attempts
    if (taken.inHand === 0 && taken.running === 0) this.#issuers.delete(issuer)
    else this.#issuers.set(issuer, taken)
  }
}
