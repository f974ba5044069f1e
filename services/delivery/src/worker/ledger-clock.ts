import type { Log } from '@curfew/runtime'

/** From this difference on the log says that the clocks differ, in milliseconds. */
const DIFFERS_MS = 5_000
/** From this difference on the worker makes no attempts, in milliseconds. */
const DISAGREES_MS = 60_000

/** When a heartbeat was sent and answered, by the clock that only goes forward, in milliseconds. */
export interface RoundTrip {
  readonly sentMs: number
  readonly receivedMs: number
}

/**
 * The ledger's clock, carried on from each heartbeat. All workers decide by it when a delivery is due, and whether a session has
 * ended: one machine's clock may be wrong by hours.
 */
export interface LedgerClock {
  /** The ledger's time; this machine's before the first heartbeat. */
  now(): Date
  /** False while this machine's clock differs from the ledger's by more than a minute: nothing tells which of them is right. */
  agrees(): boolean
  /** By how much this machine's clock is ahead of the ledger's, in milliseconds; what a round trip explains is left out. */
  readonly aheadMs: number
  /** Takes the ledger's time from the answer to a heartbeat. */
  set(ledgerNow: Date, trip: RoundTrip): void
}

export interface LedgerClockDeps {
  readonly log: Log
  /** This machine's clock, in milliseconds since 1970. */
  readonly wallMs: () => number
  /** Time that only goes forward, in milliseconds. */
  readonly monotonicMs: () => number
}

/**
 * Rejects while this machine's clock differs from the ledger's by more than a worker may work by.
 *
 * @param readClock answers the ledger's time.
 */
export async function checkClock(readClock: () => Promise<Date>): Promise<void> {
  const sentMs = Date.now()
  const ledgerMs = (await readClock()).getTime()
  const receivedMs = Date.now()
  const offMs = Math.max(sentMs - ledgerMs, ledgerMs - receivedMs)
  if (offMs <= DISAGREES_MS) return
  throw new Error(
    `this machine's clock and PostgreSQL's differ by ${Math.round(offMs / 1_000)} s: set both by NTP`,
  )
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
      // The ledger read its clock at some time between the two: the middle is off by half the round trip at most.
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
