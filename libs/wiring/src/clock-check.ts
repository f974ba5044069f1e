import { type Database, readClock } from '@curfew/ledger'

/** Workers make no attempts while the clocks differ by more than this, in milliseconds. */
const DISAGREES_MS = 60_000

/** Creates the readiness check of the clocks. It fails while this machine's clock and PostgreSQL's differ by more than a minute. */
export function createClockCheck(db: Database): () => Promise<void> {
  return async () => {
    const sentMs = Date.now()
    const ledgerMs = (await readClock(db)).getTime()
    const receivedMs = Date.now()
    const offMs = Math.max(sentMs - ledgerMs, ledgerMs - receivedMs)
    if (offMs <= DISAGREES_MS) return
    throw new Error(
      `this machine's clock and PostgreSQL's differ by ${Math.round(offMs / 1_000)} s: set both by NTP`,
    )
  }
}
