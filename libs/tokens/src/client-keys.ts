import { type ClientId, ClientKeyError, type IssuerName } from '@curfew/domain'
import { CompactEncrypt, compactDecrypt } from 'jose'

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
 * @throws {ClientKeyError} when it is longer or shorter.
 */
export function createClientKeySealer(masterKey: Uint8Array): ClientKeySealer {
  if (masterKey.length !== 32) throw new ClientKeyError('CURFEW_MASTER_KEY is not of 32 bytes')
  return {
    seal: (pem, { issuer, clientId }) =>
      new CompactEncrypt(new TextEncoder().encode(pem))
        .setProtectedHeader({ alg: 'dir', enc: 'A256GCM', typ: TYPE, iss: issuer, sub: clientId })
        .encrypt(masterKey),
    async open(sealed, { issuer, clientId }) {
      try {
        const { plaintext, protectedHeader } = await compactDecrypt(sealed, masterKey, {
          keyManagementAlgorithms: ['dir'],
          contentEncryptionAlgorithms: ['A256GCM'],
        })
        const { typ, iss, sub } = protectedHeader
        if (typ === TYPE && iss === issuer && sub === clientId) return new TextDecoder().decode(plaintext)
      } catch (error) {
        throw new ClientKeyError(
          `the client key for ${clientId} at ${issuer} cannot be opened: CURFEW_MASTER_KEY is not the one it was sealed with`,
          { cause: error },
        )
      }
      throw new ClientKeyError(
        `the client key for ${clientId} at ${issuer} cannot be opened: it was sealed as another key`,
      )
    },
  }
}
