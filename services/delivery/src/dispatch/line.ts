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

/** The deliveries of one binding that this worker holds: what waits, what runs, and whether it is worth trying. */
export interface Line {
  /** Whose relying party it is. */
  readonly issuer: Issuer
  push(held: Held): void
  /** The next that may start now, interactive ones first; it counts as running from then on. Null where none may. */
  next(): Held | null
  /** Whether one waits that has a free slot. Its rate may still hold it. */
  readonly startable: boolean
  /** Takes out what has waited since before `beforeMs`. */
  takeOlder(beforeMs: number): readonly Held[]
  /** Takes out all that waits. */
  takeWaiting(): readonly Held[]
  /** An attempt has ended: its slot is free, and the ledger is being told. */
  attempted(lane: Lane, outcome: AttemptOutcome | null): void
  /** The ledger has it. */
  settled(): void
  /** Attempts that may be under way at once, as things stand. */
  readonly limit: number
  /** Attempts that may start within `ms`, by the rate alone. */
  startableWithin(ms: number): number
  readonly breaker: Breaker
  /** Attempts under way. */
  readonly running: number
  /** Waiting, running and being settled. */
  readonly inHand: number
  /** Whether the ledger has more that is due, by lane. What is new then goes there too, behind it. */
  readonly backlog: Record<Lane, boolean>
  /** Attempts that have ended since the ledger was last asked for more. */
  ended: number
  /** When an attempt last ended. */
  readonly endedMs: number
  /** Nothing of it needs to be remembered. */
  readonly quiet: boolean
}

/** The part of a binding's slots that the bulk lane may fill, so that a person's click always finds one. */
const BULK_PART = 1 / 2

export function createLine({
  issuer,
  limits,
  monotonicMs,
  random,
}: {
  issuer: Issuer
  limits: () => Limits
  monotonicMs: () => number
  random: () => number
}): Line {
  const waiting: Record<Lane, Held[]> = { interactive: [], bulk: [] }
  const running: Record<Lane, number> = { interactive: 0, bulk: 0 }
  const backlog: Record<Lane, boolean> = { interactive: false, bulk: false }
  let settling = 0
  let breaker: Breaker = CLOSED
  let bucket: Bucket | null = null
  let ended = 0
  let endedMs = Number.NEGATIVE_INFINITY

  const limit = () => allowedBy(breaker, limits().concurrency, monotonicMs())
  const inHand = () =>
    waiting.interactive.length + waiting.bulk.length + running.interactive + running.bulk + settling

  function nextLane(most: number): Lane | null {
    if (running.interactive + running.bulk >= most) return null
    if (waiting.interactive.length > 0) return 'interactive'
    const bulkMost = Math.max(1, Math.floor(most * BULK_PART))
    return waiting.bulk.length > 0 && running.bulk < bulkMost ? 'bulk' : null
  }

  /** Takes a token, where there is a rate. */
  function mayStart(): boolean {
    const { perSecond } = limits()
    if (perSecond === null) return true
    bucket = refilled(bucket, perSecond, monotonicMs())
    if (bucket.tokens < 1) return false
    bucket = { ...bucket, tokens: bucket.tokens - 1 }
    return true
  }

  return {
    issuer,
    push: (held) => void waiting[held.delivery.event.lane].push(held),
    next() {
      const lane = nextLane(limit())
      if (lane === null || !mayStart()) return null
      breaker = breakerStarted(breaker)
      running[lane] += 1
      return waiting[lane].shift() ?? null
    },
    get startable() {
      if (waiting.interactive.length === 0 && waiting.bulk.length === 0) return false
      return nextLane(limit()) !== null
    },
    takeOlder(beforeMs) {
      const older: Held[] = []
      for (const queue of [waiting.interactive, waiting.bulk]) {
        while ((queue[0]?.sinceMs ?? beforeMs) < beforeMs) older.push(...queue.splice(0, 1))
      }
      return older
    },
    takeWaiting: () => [...waiting.interactive.splice(0), ...waiting.bulk.splice(0)],
    attempted(lane, outcome) {
      running[lane] -= 1
      settling += 1
      ended += 1
      endedMs = monotonicMs()
      breaker = breakerAfter(breaker, outcome, { nowMs: endedMs, random: random() })
    },
    settled() {
      settling -= 1
    },
    get limit() {
      return limit()
    },
    startableWithin(ms) {
      const { perSecond } = limits()
      return perSecond === null ? Number.POSITIVE_INFINITY : Math.ceil((perSecond * ms) / 1_000)
    },
    get breaker() {
      return breaker
    },
    get running() {
      return running.interactive + running.bulk
    },
    get inHand() {
      return inHand()
    },
    backlog,
    get ended() {
      return ended
    },
    set ended(value) {
      ended = value
    },
    get endedMs() {
      return endedMs
    },
    get quiet() {
      return inHand() === 0 && breaker === CLOSED && bucket === null && !backlog.interactive && !backlog.bulk
    },
  }
}
