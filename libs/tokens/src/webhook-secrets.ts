import { WebhookSecretError } from '@curfew/domain'
import { CompactEncrypt, compactDecrypt } from 'jose'

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
 * @throws {WebhookSecretError} when it is longer or shorter.
 */
export function createWebhookSecretSealer(masterKey: Uint8Array): WebhookSecretSealer {
  if (masterKey.length !== 32) throw new WebhookSecretError('CURFEW_MASTER_KEY is not of 32 bytes')
  return {
    seal: (secret, webhook) =>
      new CompactEncrypt(new TextEncoder().encode(secret))
        .setProtectedHeader({ alg: 'dir', enc: 'A256GCM', typ: TYPE, sub: webhook })
        .encrypt(masterKey),
    async open(sealed, webhook) {
      try {
        const { plaintext, protectedHeader } = await compactDecrypt(sealed, masterKey, {
          keyManagementAlgorithms: ['dir'],
          contentEncryptionAlgorithms: ['A256GCM'],
        })
        const { typ, sub } = protectedHeader
        if (typ === TYPE && sub === webhook) return new TextDecoder().decode(plaintext)
      } catch (error) {
        throw new WebhookSecretError(
          `the secret of webhook ${webhook} cannot be opened: CURFEW_MASTER_KEY is not the one it was sealed with`,
          { cause: error },
        )
      }
      throw new WebhookSecretError(
        `the secret of webhook ${webhook} cannot be opened: it was sealed as another`,
      )
    },
  }
}
