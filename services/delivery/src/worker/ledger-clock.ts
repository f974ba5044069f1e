import type { Log } from '@curfew/runtime'

/** The log reports a difference between the clocks above this value, in milliseconds. */
const DIFFERS_MS = 5_000
/** The worker makes no attempts while the clocks differ by more than this, in milliseconds. */
const DISAGREES_MS = 60_000

/** The send and receive times of a heartbeat, by the monotonic clock, in milliseconds. */
export interface RoundTrip {
  readonly sentMs: number
  readonly receivedMs: number
}

/**
 * The ledger's clock, extrapolated from the last heartbeat. All workers use it to decide whether a delivery is due and whether a
 * session has ended: the clock of one machine may be wrong by hours.
 */
export interface LedgerClock {
  /** The ledger's time. Before the first heartbeat, this machine's time. */
  now(): Date
  /**
   * False while this machine's clock differs from the ledger's by more than a minute. The worker cannot know which of the two is
   * right.
   */
  agrees(): boolean
  /**
   * How far this machine's clock is ahead of the ledger's, in milliseconds, less the difference that the round trip may explain.
   */
  readonly aheadMs: number
  /** Takes the ledger's time from the answer to a heartbeat. */
  set(ledgerNow: Date, trip: RoundTrip): void
}

export interface LedgerClockDeps {
  readonly log: Log
  /** This machine's clock, in milliseconds since 1970. */
  readonly wallMs: () => number
  /** Monotonic time in milliseconds. */
  readonly monotonicMs: () => number
}

export function createLedgerClock({ log, wallMs, monotonicMs }: LedgerClockDeps): LedgerClock {
  let anchor: { readonly ledgerMs: number; readonly atMs: number } | null = null
  let aheadMs = 0

  function report(previousMs: number): void {
    const [before, now] = [previousMs, aheadMs].map(Math.abs) as [number, number]
    const differs = { event: 'clock.differs', ahead_ms: Math.round(aheadMs) }
    if (now > DISAGREES_MS && before <= DISAGREES_MS) {
      log.error({ ...differs, msg: 'no attempts are made until the clocks agree to within a minute' })
    } else if (now > DIFFERS_MS && before <= DIFFERS_MS) log.warn(differs)
    else if (now <= DIFFERS_MS && before > DIFFERS_MS) log.info({ event: 'clock.agrees' })
  }

  return {
    now: () => new Date(anchor === null ? wallMs() : anchor.ledgerMs + monotonicMs() - anchor.atMs),
    agrees: () => Math.abs(aheadMs) <= DISAGREES_MS,
    get aheadMs() {
      return aheadMs
    },
    set(ledgerNow, { sentMs, receivedMs }) {
      // The ledger read its clock between the two times, so the middle is wrong by at most half the round trip.
      const halfTripMs = (receivedMs - sentMs) / 2
      anchor = { ledgerMs: ledgerNow.getTime(), atMs: sentMs + halfTripMs }
      const wallThenMs = wallMs() - (monotonicMs() - anchor.atMs)
      const measuredMs = wallThenMs - anchor.ledgerMs
      const previousMs = aheadMs
      aheadMs = Math.sign(measuredMs) * Math.max(0, Math.abs(measuredMs) - halfTripMs)
      report(previousMs)
    },
  }
}
