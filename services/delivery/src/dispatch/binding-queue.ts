import {
  type AttemptOutcome,
  allowedBy,
  type Breaker,
  type Bucket,
  breakerAfter,
  breakerStarted,
  CLOSED,
  type InFlightDelivery,
  type Issuer,
  type Lane,
  refilled,
} from '@curfew/domain'
import type { Lease } from '@curfew/ledger'

/** A delivery that this worker holds. */
export interface Held {
  readonly delivery: InFlightDelivery
  readonly lease: Lease
  readonly sinceMs: number
}

/** What this worker may do to one binding: its share of what the binding takes. */
export interface Limits {
  /** Attempts at once; 0 where all of it is other workers'. */
  readonly concurrency: number
  /** Attempts started in a second; null without a limit. */
  readonly perSecond: number | null
}

export interface BindingQueueDeps {
  /** Whose relying party it is. */
  readonly issuer: Issuer
  readonly limits: () => Limits
  readonly monotonicMs: () => number
  /** Uniform in [0, 1). */
  readonly random: () => number
}

/** The part of a binding's slots that the bulk lane may fill, so that a person's click always finds one. */
const BULK_PART = 1 / 2

/** The deliveries of one binding that this worker holds: what waits, what runs, and whether it is worth trying. */
export class BindingQueue {
  readonly issuer: Issuer
  /** Whether the ledger has more that is due, by lane. What is new then goes there too, behind it. */
  readonly backlog: Record<Lane, boolean> = { interactive: false, bulk: false }
  /** Attempts that have ended since the ledger was last asked for more. */
  ended = 0
  readonly #deps: BindingQueueDeps
  readonly #waiting: Record<Lane, Held[]> = { interactive: [], bulk: [] }
  readonly #running: Record<Lane, number> = { interactive: 0, bulk: 0 }
  #settling = 0
  #breaker: Breaker = CLOSED
  #bucket: Bucket | null = null
  #endedMs = Number.NEGATIVE_INFINITY

  constructor(deps: BindingQueueDeps) {
    this.issuer = deps.issuer
    this.#deps = deps
  }

  /** Attempts that may be under way at once, as things stand. */
  get limit(): number {
    return allowedBy(this.#breaker, this.#deps.limits().concurrency, this.#deps.monotonicMs())
  }

  get breaker(): Breaker {
    return this.#breaker
  }

  /** Attempts under way. */
  get running(): number {
    return this.#running.interactive + this.#running.bulk
  }

  /** Waiting, running and being settled. */
  get inHand(): number {
    return this.#waiting.interactive.length + this.#waiting.bulk.length + this.running + this.#settling
  }

  /** When an attempt last ended. */
  get endedMs(): number {
    return this.#endedMs
  }

  /** Nothing of it needs to be remembered. */
  get quiet(): boolean {
    const { interactive, bulk } = this.backlog
    return this.inHand === 0 && this.#breaker === CLOSED && this.#bucket === null && !interactive && !bulk
  }

  /** Whether one waits that has a free slot. Its rate may still hold it. */
  get startable(): boolean {
    if (this.#waiting.interactive.length === 0 && this.#waiting.bulk.length === 0) return false
    return this.#nextLane() !== null
  }

  /** Attempts that may start within `ms`, by the rate alone. */
  startableWithin(ms: number): number {
    const { perSecond } = this.#deps.limits()
    return perSecond === null ? Number.POSITIVE_INFINITY : Math.ceil((perSecond * ms) / 1_000)
  }

  push(held: Held): void {
    this.#waiting[held.delivery.event.lane].push(held)
  }

  /** The next that may start now, interactive ones first; it counts as running from then on. Null where none may. */
  next(): Held | null {
    const lane = this.#nextLane()
    if (lane === null || !this.#mayStart()) return null
    this.#breaker = breakerStarted(this.#breaker)
    this.#running[lane] += 1
    return this.#waiting[lane].shift() ?? null
  }

  /** Takes out what has waited since before `beforeMs`. */
  takeOlder(beforeMs: number): readonly Held[] {
    const older: Held[] = []
    for (const queue of [this.#waiting.interactive, this.#waiting.bulk]) {
      while ((queue[0]?.sinceMs ?? beforeMs) < beforeMs) older.push(...queue.splice(0, 1))
    }
    return older
  }

  /** Takes out all that waits. */
  takeWaiting(): readonly Held[] {
    return [...this.#waiting.interactive.splice(0), ...this.#waiting.bulk.splice(0)]
  }

  /** An attempt has ended: its slot is free, and the ledger is being told. */
  attempted(lane: Lane, outcome: AttemptOutcome | null): void {
    const { monotonicMs, random } = this.#deps
    this.#running[lane] -= 1
    this.#settling += 1
    this.ended += 1
    this.#endedMs = monotonicMs()
    this.#breaker = breakerAfter(this.#breaker, outcome, { nowMs: this.#endedMs, random: random() })
  }

  /** The ledger has it. */
  settled(): void {
    this.#settling -= 1
  }

  #nextLane(): Lane | null {
    const most = this.limit
    if (this.running >= most) return null
    if (this.#waiting.interactive.length > 0) return 'interactive'
    const bulkMost = Math.max(1, Math.floor(most * BULK_PART))
    return this.#waiting.bulk.length > 0 && this.#running.bulk < bulkMost ? 'bulk' : null
  }

  /** Takes a token, where there is a rate. */
  #mayStart(): boolean {
    const { perSecond } = this.#deps.limits()
    if (perSecond === null) return true
    this.#bucket = refilled(this.#bucket, perSecond, this.#deps.monotonicMs())
    if (this.#bucket.tokens < 1) return false
    this.#bucket = { ...this.#bucket, tokens: this.#bucket.tokens - 1 }
    return true
  }
}
