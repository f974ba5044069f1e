import { MessageSealError } from '@curfew/domain'
import { createSealer } from './sealing.ts'

/** Encrypts the first messages of deliveries for storage, with the master key and bound to the delivery. */
export interface MessageSealer {
  /** @returns a compact JWE (RFC 7516), direct encryption with A256GCM. */
  seal(message: string, deliveryId: string): Promise<string>
  /** @throws {MessageSealError} if another master key or another delivery's binding sealed the text, or the text was changed. */
  open(sealed: string, deliveryId: string): Promise<string>
}

/** The `typ` that tells a message from other secrets under the same master key. */
const TYPE = 'curfew-first-message'

/**
 * @param masterKey 32 bytes.
 * @param oldMasterKey 32 bytes. It opens messages, but seals none, during a rotation of the master key.
 * @throws {MessageSealError} if a master key is not 32 bytes long.
 */
export function createMessageSealer(
  masterKey: Uint8Array,
  oldMasterKey: Uint8Array | null = null,
): MessageSealer {
  const sealer = createSealer({ current: masterKey, old: oldMasterKey }, MessageSealError, 'another message')
  return {
    seal: (message, deliveryId) => sealer.seal(message, { typ: TYPE, sub: deliveryId }),
    open: (sealed, deliveryId) =>
      sealer.open(sealed, { typ: TYPE, sub: deliveryId }, `the first message of delivery ${deliveryId}`),
  }
}
