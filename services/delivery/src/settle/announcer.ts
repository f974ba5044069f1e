import type { DeliveryId, EventId } from '@curfew/domain'
import type { DeliveryLedger } from '@curfew/ledger'
import type { Log } from '@curfew/runtime'

export interface AnnouncerDeps {
  readonly ledger: Pick<DeliveryLedger, 'announceSettled'>
  readonly log: Log
}

/** Wakes callers that wait for events to settle. No caller waits for an announcement, and a failed one fails nothing else. */
export interface Announcer {
  /** Announces settled deliveries, or events that owe no delivery. Call it after the ledger has stored them. */
  announce(ids: readonly (EventId | DeliveryId)[]): void
  /** Resolves when every announcement was sent or has failed. */
  idle(): Promise<void>
}

/** The most ids kept while one statement runs. The excess is dropped: waiting callers also poll, and find it a little later. */
const WAITING_MAX = 20_000

/**
 * Sends one statement at a time, with all ids that arrived during the last one. A failed announcement is dropped: waiting callers
 * also poll.
 */
export function createAnnouncer({ ledger, log }: AnnouncerDeps): Announcer {
  let waiting: (EventId | DeliveryId)[] = []
  let announcing: Promise<void> | null = null

  async function announceWaiting(): Promise<void> {
    while (waiting.length > 0) {
      const ids = waiting
      waiting = []
      try {
        await ledger.announceSettled(ids)
      } catch (error) {
        log.warn({ event: 'settled.announce-failed', ids: ids.length, err: error })
      }
    }
    announcing = null
  }

  return {
    announce(ids) {
      if (ids.length === 0 || waiting.length >= WAITING_MAX) return
      waiting.push(...ids)
      announcing ??= announceWaiting()
    },
    idle: async () => void (await announcing),
  }
}
