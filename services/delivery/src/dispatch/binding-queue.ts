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

/** The limits of one binding for this worker: its share of what the binding allows. */
export interface Limits {
  /** Concurrent attempts; 0 if other workers have the whole share. */
  readonly concurrency: number
  /** Attempts started per second; null without a limit. */
  readonly perSecond: number | null
}

export interface BindingQueueDeps {
  /** The issuer that the relying party is registered at. */
  readonly issuer: Issuer
  readonly limits: () => Limits
  readonly monotonicMs: () => number
  /** Uniform in [0, 1). */
  readonly random: () => number
}

/** The part of a binding's slots that the bulk lane may fill, so that an interactive logout always finds one. */
const BULK_PART = 1 / 2

/**
 * The deliveries of one binding that this worker holds: waiting, running and being settled. Also decides whether an attempt may
 * start.
 */
export class BindingQueue {
  readonly issuer: Issuer
  /** Whether the ledger has more due deliveries, by lane. New deliveries then go to the ledger too, behind them. */
  readonly backlog: Record<Lane, boolean> = { interactive: false, bulk: false }
  /** Attempts that ended since the last claim. */
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

  /** Attempts that may run at present. */
  get limit(): number {
    return allowedBy(this.#breaker, this.#deps.limits().concurrency, this.#deps.monotonicMs())
  }

  get breaker(): Breaker {
    return this.#breaker
  }

  /** Running attempts. */
  get running(): number {
    return this.#running.interactive + this.#running.bulk
  }

  /** Deliveries that wait, run or are being settled. */
  get inHand(): number {
    return this.#waiting.interactive.length + this.#waiting.bulk.length + this.running + this.#settling
  }

  /** The time when an attempt last ended. */
  get endedMs(): number {
    return this.#endedMs
  }

  /** Whether the queue has no state to remember. */
  get quiet(): boolean {
    const { interactive, bulk } = this.backlog
    return this.inHand === 0 && this.#breaker === CLOSED && this.#bucket === null && !interactive && !bulk
  }

  /** Whether a waiting delivery has a free slot. The rate limit may still delay it. */
  get startable(): boolean {
    if (this.#waiting.interactive.length === 0 && this.#waiting.bulk.length === 0) return false
    return this.#nextLane() !== null
  }

  /** Attempts that the rate limit allows to start within `ms`. */
  startableWithin(ms: number): number {
    const { perSecond } = this.#deps.limits()
    return perSecond === null ? Number.POSITIVE_INFINITY : Math.ceil((perSecond * ms) / 1_000)
  }

  push(held: Held): void {
    this.#waiting[held.delivery.event.lane].push(held)
  }

  /** Removes the next delivery that may start, interactive ones first, and counts it as running. Null if none may start. */
  next(): Held | null {
    const lane = this.#nextLane()
    if (lane === null || !this.#mayStart()) return null
    this.#breaker = breakerStarted(this.#breaker)
    this.#running[lane] += 1
    return this.#waiting[lane].shift() ?? null
  }

  /** Removes and returns the deliveries that have waited since before `beforeMs`. */
  takeOlder(beforeMs: number): readonly Held[] {
    const older: Held[] = []
    for (const queue of [this.#waiting.interactive, this.#waiting.bulk]) {
      while ((queue[0]?.sinceMs ?? beforeMs) < beforeMs) older.push(...queue.splice(0, 1))
    }
    return older
  }

  /** Removes and returns all waiting deliveries. */
  takeWaiting(): readonly Held[] {
    return [...this.#waiting.interactive.splice(0), ...this.#waiting.bulk.splice(0)]
  }

  /** Notes that an attempt has ended: its slot is free, and its outcome is being written. */
  attempted(lane: Lane, outcome: AttemptOutcome | null): void {
    const { monotonicMs, random } = this.#deps
    this.#running[lane] -= 1
    this.#settling += 1
    this.ended += 1
    this.#endedMs = monotonicMs()
    this.#breaker = breakerAfter(this.#breaker, outcome, { nowMs: this.#endedMs, random: random() })
  }

  /** Notes that the ledger has stored the outcome of an attempt. */
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

  /** Takes a token of the rate limit, if there is one. */
  #mayStart(): boolean {
    const { perSecond } = this.#deps.limits()
    if (perSecond === null) return true
    this.#bucket = refilled(this.#bucket, perSecond, this.#deps.monotonicMs())
    if (this.#bucket.tokens < 1) return false
    this.#bucket = { ...this.#bucket, tokens: this.#bucket.tokens - 1 }
    return true
  }
}
