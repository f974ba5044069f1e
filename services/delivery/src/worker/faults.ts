import type { OnDeliveryFault } from '@curfew/ledger'
import { createSeldom, type Log } from '@curfew/runtime'

/** Logs each delivery whose values the ledger refused, and what became of it. One that stays as it is fails as often as it is tried. */
export function logDeliveryFaults(log: Log): OnDeliveryFault {
  const isTime = createSeldom()
  return ({ doing, deliveryId, became, error }) => {
    if (!isTime(`${doing} ${deliveryId}`)) return
    log.error({ event: 'delivery.unrecordable', delivery_id: deliveryId, doing, became, err: error })
  }
}
