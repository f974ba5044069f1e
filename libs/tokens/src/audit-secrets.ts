import { AuditSecretError, type AuditSecrets } from '@curfew/domain'
import type { ClientKeyOwner } from './client-keys.ts'
import { createSealer } from './sealing.ts'

/** Encrypts the secrets of a logout audit's set-up for storage, with the master key and bound to the relying party. */
export interface AuditSecretSealer {
  /** @returns a compact JWE (RFC 7516), direct encryption with A256GCM. */
  seal(secrets: AuditSecrets, owner: ClientKeyOwner): Promise<string>
  /**
   * @throws {AuditSecretError} if another master key or another relying party's binding sealed the text, or the text was changed.
   */
  open(sealed: string, owner: ClientKeyOwner): Promise<AuditSecrets>
}

/** The `typ` that tells these secrets from other secrets under the same master key. */
const TYPE = 'curfew-audit-secrets'

/**
 * @param masterKey 32 bytes.
 * @param oldMasterKey 32 bytes. It opens secrets, but seals none, during a rotation of the master key.
 * @throws {AuditSecretError} if a master key is not 32 bytes long.
 */
export function createAuditSecretSealer(
  masterKey: Uint8Array,
  oldMasterKey: Uint8Array | null = null,
): AuditSecretSealer {
  const sealer = createSealer({ current: masterKey, old: oldMasterKey }, AuditSecretError, 'another secret')
  const bindingOf = ({ issuer, clientId }: ClientKeyOwner) => ({ typ: TYPE, iss: issuer, sub: clientId })
  return {
    seal: (secrets, owner) => sealer.seal(JSON.stringify(secrets), bindingOf(owner)),
    async open(sealed, owner) {
      const name = `the audit secrets for ${owner.clientId} at ${owner.issuer}`
      return JSON.parse(await sealer.open(sealed, bindingOf(owner), name)) as AuditSecrets
    },
  }
}
