import { WebhookSecretError } from '@curfew/domain'
import { createSealer } from './sealing.ts'

/** Encrypts the secrets that sign webhooks for storage, with the master key and bound to the webhook. */
export interface WebhookSecretSealer {
  /** @returns a compact JWE (RFC 7516), direct encryption with A256GCM. */
  seal(secret: string, webhook: string): Promise<string>
  /** @throws {WebhookSecretError} if another master key or another webhook's binding sealed the text, or the text was changed. */
  open(sealed: string, webhook: string): Promise<string>
}

/** The `typ` that tells a webhook secret from other secrets under the same master key. */
const TYPE = 'curfew-webhook-secret'

/**
 * @param masterKey 32 bytes.
 * @param oldMasterKey 32 bytes. It opens secrets, but seals none, during a rotation of the master key.
 * @throws {WebhookSecretError} if a master key is not 32 bytes long.
 */
export function createWebhookSecretSealer(
  masterKey: Uint8Array,
  oldMasterKey: Uint8Array | null = null,
): WebhookSecretSealer {
  const sealer = createSealer({ current: masterKey, old: oldMasterKey }, WebhookSecretError, 'another secret')
  return {
    seal: (secret, webhook) => sealer.seal(secret, { typ: TYPE, sub: webhook }),
    open: (sealed, webhook) =>
      sealer.open(sealed, { typ: TYPE, sub: webhook }, `the secret of webhook ${webhook}`),
  }
}
