import { type ClientId, ClientKeyError, type IssuerName } from '@curfew/domain'
import { createSealer } from './sealing.ts'

/** The relying party that a private key is shown to. */
export interface ClientKeyOwner {
  readonly issuer: IssuerName
  readonly clientId: ClientId
}

/** Keeps the private keys of client certificates (mTLS) at rest: under the master key, bound to the relying party. */
export interface ClientKeySealer {
  /** @returns a compact JWE (RFC 7516), direct encryption with A256GCM. */
  seal(pem: string, owner: ClientKeyOwner): Promise<string>
  /** @throws {ClientKeyError} when the master key is another, or the text was tampered with or belongs to another. */
  open(sealed: string, owner: ClientKeyOwner): Promise<string>
}

/** Tells a client key from a signing key, which lies under the same master key. */
const TYPE = 'curfew-client-key'

/**
 * @param masterKey 32 bytes.
 * @param oldMasterKey 32 bytes: opens too, while one master key replaces another.
 * @throws {ClientKeyError} when one is longer or shorter.
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
