import { type ClientId, ClientKeyError, type IssuerName } from '@curfew/domain'
import { createSealer } from './sealing.ts'

/** The relying party that Curfew presents the client certificate to. */
export interface ClientKeyOwner {
  readonly issuer: IssuerName
  readonly clientId: ClientId
}

/** Encrypts the private keys of client certificates (mTLS) for storage, with the master key and bound to the relying party. */
export interface ClientKeySealer {
  /** @returns a compact JWE (RFC 7516), direct encryption with A256GCM. */
  seal(pem: string, owner: ClientKeyOwner): Promise<string>
  /**
   * @throws {ClientKeyError} if another master key or another relying party's binding sealed the text, or the text was changed.
   */
  open(sealed: string, owner: ClientKeyOwner): Promise<string>
}

/** The `typ` that tells a client key from other secrets under the same master key. */
const TYPE = 'curfew-client-key'

/**
 * @param masterKey 32 bytes.
 * @param oldMasterKey 32 bytes. It opens keys, but seals none, during a rotation of the master key.
 * @throws {ClientKeyError} if a master key is not 32 bytes long.
 */
export function createClientKeySealer(
  masterKey: Uint8Array,
  oldMasterKey: Uint8Array | null = null,
): ClientKeySealer {
  const sealer = createSealer({ current: masterKey, old: oldMasterKey }, ClientKeyError, 'another key')
  const bindingOf = ({ issuer, clientId }: ClientKeyOwner) => ({ typ: TYPE, iss: issuer, sub: clientId })
  return {
    seal: (pem, owner) => sealer.seal(pem, bindingOf(owner)),
    open: (sealed, owner) =>
      sealer.open(sealed, bindingOf(owner), `the client key for ${owner.clientId} at ${owner.issuer}`),
  }
}
