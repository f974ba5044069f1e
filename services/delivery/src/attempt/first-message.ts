import type { InFlightDelivery } from '@curfew/domain'
import type { Log } from '@curfew/runtime'
import type { MessageSealer } from '@curfew/tokens'

export interface FirstMessageDeps {
  readonly messages: Pick<MessageSealer, 'open'>
  readonly log: Log
}

/** Opens the message that was made when the event was planned. Null if there is none, or if it cannot be opened. */
export async function openFirstMessage(
  { messages, log }: FirstMessageDeps,
  { id, firstMessage }: InFlightDelivery,
): Promise<string | null> {
  if (firstMessage === undefined) return null
  try {
    return await messages.open(firstMessage, id)
  } catch (error) {
    // The attempt makes a message of its own, so the logout is not lost.
    log.error({ event: 'delivery.first-message-unreadable', delivery_id: id, err: error })
    return null
  }
}
