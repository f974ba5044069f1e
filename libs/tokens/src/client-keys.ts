import { type ClientId, ClientKeyError, type IssuerName } from '@curfew/domain'
import { createVault, type Vault } from './sealing.ts'

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
  const vault = openVault(masterKey, oldMasterKey)
  return {
    seal: (pem, { issuer, clientId }) => vault.seal(pem, { typ: TYPE, iss: issuer, sub: clientId }),
    async open(sealed, { issuer, clientId }) {
      const cannot = `the client key for ${clientId} at ${issuer} cannot be opened:`
      const opened = await vault.open(sealed)
      if (opened === null)
        throw new ClientKeyError(`${cannot} CURFEW_MASTER_KEY is not the one it was sealed with`)
      const { typ, iss, sub } = opened.header
      if (typ === TYPE && iss === issuer && sub === clientId) return opened.secret
      throw new ClientKeyError(`${cannot} it was sealed as another key`)
    },
  }
}

function openVault(current: Uint8Array, old: Uint8Array | null): Vault {
  try {
    return createVault({ current, old })
  } catch (error) {
    throw new ClientKeyError(error instanceof Error ? error.message : String(error), { cause: error })
  }
}
