import type { DeliveryId, EventId } from '@curfew/domain'
import type { DeliveryLedger } from '@curfew/ledger'
import type { Log } from '@curfew/runtime'

export interface AnnouncerDeps {
  readonly ledger: Pick<DeliveryLedger, 'announceSettled'>
  readonly log: Log
}

/** Wakes those who wait for events to be settled. Nobody waits for it, and nothing fails with it. */
export interface Announcer {
  /** To be called after the ledger has it: of deliveries that were settled, or of events that owe none. */
  announce(ids: readonly (EventId | DeliveryId)[]): void
  /** Resolves when everything was said, or could not be. */
  idle(): Promise<void>
}

/** Most that is remembered while one statement is under way. What is too much is found out without us, a little later. */
const WAITING_MAX = 20_000

/** One statement at a time, for all that has come up meanwhile. What cannot be said is forgotten: waiters look by themselves too. */
export function createAnnouncer({ ledger, log }: AnnouncerDeps): Announcer {
  let waiting: (EventId | DeliveryId)[] = []
  let saying: Promise<void> | null = null

  async function say(): Promise<void> {
    while (waiting.length > 0) {
      const ids = waiting
      waiting = []
      try {
        await ledger.announceSettled(ids)
      } catch (error) {
        log.warn({ event: 'settled.announce-failed', ids: ids.length, err: error })
      }
    }
    saying = null
  }

  return {
    announce(ids) {
      if (ids.length === 0 || waiting.length >= WAITING_MAX) return
      waiting.push(...ids)
      saying ??= say()
    },
    idle: async () => void (await saying),
  }
}
