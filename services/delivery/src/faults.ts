import type { OnDeliveryFault } from '@curfew/ledger'
import type { Log } from '@curfew/runtime'

/** Between two lines about one delivery that stays as it is, in milliseconds: it fails as often as it is tried. */
const QUIET_MS = 60_000
/** Deliveries that are remembered. */
const KNOWN_MAX = 1_000

/**
 * Logs each delivery whose values the ledger refused, and what became of it.
 *
 * @param monotonicMs time that only goes forward, in milliseconds.
 */
export function logDeliveryFaults(
  log: Log,
  { monotonicMs = () => performance.now() }: { monotonicMs?: () => number } = {},
): OnDeliveryFault {
  const loggedMs = new Map<string, number>()
  return ({ doing, deliveryId, became, error }) => {
    const name = `${doing} ${deliveryId}`
    const nowMs = monotonicMs()
    if (nowMs - (loggedMs.get(name) ?? Number.NEGATIVE_INFINITY) < QUIET_MS) return
    if (loggedMs.size >= KNOWN_MAX) loggedMs.clear()
    loggedMs.set(name, nowMs)
    log.error({ event: 'delivery.unrecordable', delivery_id: deliveryId, doing, became, err: error })
  }
}
