import { type Issuer, shareLeft } from '@curfew/domain'

/** What the bindings of one issuer have together. */
interface Taken {
  inHand: number
  running: number
}

export interface Bounds {
  /** Most deliveries in memory. */
  readonly heldMax: number
  /** Most attempts under way. */
  readonly attemptsMax: number
  readonly monotonicMs: () => number
}

/** The part that one issuer may have of what it has and what is free. The rest is for an issuer that has nothing yet. */
const ISSUER_PART = 3 / 4
/** So long an issuer counts as one of several after its last delivery came, in milliseconds. */
const LATELY_MS = 2_000

/** What each issuer has of this worker's memory and attempts, so that none takes all. */
export class IssuerShares {
  readonly #bounds: Bounds
  readonly #issuers = new Map<Issuer, Taken>()
  /** Which issuer had the last delivery, and when another had one. */
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

  /** The most attempts that one issuer has under way. */
  get mostRunning(): number {
    return [...this.#issuers.values()].reduce((most, taken) => Math.max(most, taken.running), 0)
  }

  /** Whether more than one issuer has had deliveries in hand lately. */
  get shared(): boolean {
    return this.#bounds.monotonicMs() - this.#otherMs < LATELY_MS
  }

  /** Counts deliveries in hand; negative when they leave. */
  hold(issuer: Issuer, deliveries: number): void {
    if (deliveries > 0 && issuer !== this.#last) {
      if (this.#last !== null) this.#otherMs = this.#bounds.monotonicMs()
      this.#last = issuer
    }
    this.#change(issuer, deliveries, 0)
  }

  /** Counts attempts under way; negative when they end. */
  run(issuer: Issuer, attempts: number): void {
    this.#change(issuer, 0, attempts)
  }

  /** How many more deliveries an issuer may have in hand. */
  roomOf(issuer: Issuer): number {
    const inHand = this.#issuers.get(issuer)?.inHand ?? 0
    return shareLeft(inHand, this.#bounds.heldMax - this.#held, ISSUER_PART)
  }

  /** How many deliveries an issuer may have in hand, with those that it has. */
  partOf(issuer: Issuer): number {
    return (this.#issuers.get(issuer)?.inHand ?? 0) + this.roomOf(issuer)
  }

  /** How many more attempts an issuer may have under way. */
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
