import type { DeliveryWithAttempts } from '@curfew/contract'
import { type Curfew, eventually } from '../support/curfew.ts'

/** Waits until the first attempt of an event's only delivery is in the ledger. The delivery may have further attempts. */
export function firstAttempt(
  curfew: Curfew,
  eventId: string | undefined,
): Promise<DeliveryWithAttempts['attempts'][number]> {
  return eventually(async () => {
    const { items } = await curfew.client.listDeliveries({ event_id: eventId ?? '' })
    if (items[0] === undefined) throw new Error('no delivery yet')
    const [attempt] = (await curfew.client.getDelivery(items[0].id)).attempts
    if (attempt === undefined) throw new Error('no attempt yet')
    return attempt
  })
}
