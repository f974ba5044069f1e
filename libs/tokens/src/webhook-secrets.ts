import { WebhookSecretError } from '@curfew/domain'
import { createSealer } from './sealing.ts'

/** Keeps the secrets that sign webhooks at rest: under the master key, bound to the webhook. */
export interface WebhookSecretSealer {
  /** @returns a compact JWE (RFC 7516), direct encryption with A256GCM. */
  seal(secret: string, webhook: string): Promise<string>
  /** @throws {WebhookSecretError} when the master key is another, or the text was tampered with or belongs to another. */
  open(sealed: string, webhook: string): Promise<string>
}

/** Tells it from what else lies under the same master key. */
const TYPE = 'curfew-webhook-secret'

/**
 * @param masterKey 32 bytes.
 * @param oldMasterKey 32 bytes: opens too, while one master key replaces another.
 * @throws {WebhookSecretError} when one is longer or shorter.
 */
export function createWebhookSecretSealer(
  masterKey: Uint8Array,
  oldMasterKey: Uint8Array | null = null,
): WebhookSecretSealer {
  const sealer = createSealer({ current: masterKey, old: oldMasterKey }, WebhookSecretError, 'another')
  return {
    seal: (secret, webhook) => sealer.seal(secret, { typ: TYPE, sub: webhook }),
    open: (sealed, webhook) =>
      sealer.open(sealed, { typ: TYPE, sub: webhook }, `the secret of webhook ${webhook}`),
  }
}
