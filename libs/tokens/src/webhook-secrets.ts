import { WebhookSecretError } from '@curfew/domain'
import { createVault, type Vault } from './sealing.ts'

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
  const vault = openVault(masterKey, oldMasterKey)
  return {
    seal: (secret, webhook) => vault.seal(secret, { typ: TYPE, sub: webhook }),
    async open(sealed, webhook) {
      const cannot = `the secret of webhook ${webhook} cannot be opened:`
      const opened = await vault.open(sealed)
      if (opened === null)
        throw new WebhookSecretError(`${cannot} CURFEW_MASTER_KEY is not the one it was sealed with`)
      const { typ, sub } = opened.header
      if (typ === TYPE && sub === webhook) return opened.secret
      throw new WebhookSecretError(`${cannot} it was sealed as another`)
    },
  }
}

function openVault(current: Uint8Array, old: Uint8Array | null): Vault {
  try {
    return createVault({ current, old })
  } catch (error) {
    throw new WebhookSecretError(error instanceof Error ? error.message : String(error), { cause: error })
  }
}
