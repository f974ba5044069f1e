import { type Database, readClock } from '@curfew/ledger'

/** Workers make no attempts while the clocks differ by more than this, in milliseconds. */
const DISAGREES_MS = 60_000

/** Whether a difference of this machine's clock and PostgreSQL's is a fault. */
export function isTooFar(offsetMs: number): boolean {
  return Math.abs(offsetMs) > DISAGREES_MS
}

/** The fault in words. */
export function differenceText(offsetMs: number): string {
  return `this machine's clock and PostgreSQL's differ by ${Math.round(offsetMs / 1_000)} s: set both by NTP`
}

/** Creates the readiness check of the clocks. It fails while this machine's clock and PostgreSQL's differ by more than a minute. */
export function createClockCheck(db: Database): () => Promise<void> {
  return async () => {
    const offsetMs = await readOffsetMs(db)
    if (isTooFar(offsetMs)) throw new Error(differenceText(Math.abs(offsetMs)))
  }
}

/** This machine's clock minus PostgreSQL's, less the difference that the round trip may explain, in milliseconds. */
export async function readOffsetMs(
  db: Database,
  {
    monotonicMs = () => performance.now(),
    wallMs = () => Date.now(),
  }: { readonly monotonicMs?: () => number; readonly wallMs?: () => number } = {},
): Promise<number> {
  const sentMs = monotonicMs()
  const ledgerMs = (await readClock(db)).getTime()
  // PostgreSQL read its clock between the two times, so the middle is wrong by at most half the round trip.
  const halfTripMs = (monotonicMs() - sentMs) / 2
  const measuredMs = wallMs() - halfTripMs - ledgerMs
  return Math.sign(measuredMs) * Math.max(0, Math.abs(measuredMs) - halfTripMs)
}
