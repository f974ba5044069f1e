import type { OnDeliveryFault } from '@curfew/ledger'
import { createThrottle, type Log } from '@curfew/runtime'

/**
 * Logs a delivery with values that the ledger refused, and what it did with the delivery. Repetitions are logged seldom: such a
 * delivery fails at every try.
 */
export function logDeliveryFaults(log: Log): OnDeliveryFault {
  const isTime = createThrottle()
  return ({ doing, deliveryId, became, error }) => {
    if (!isTime(`${doing} ${deliveryId}`)) return
    log.error({ event: 'delivery.unrecordable', delivery_id: deliveryId, doing, became, err: error })
  }
}
