import { type IssuerName, SigningKeyError } from '@curfew/domain'
import { CompactEncrypt, compactDecrypt, type JWK } from 'jose'

/** Keeps private keys at rest: under the master key, bound to their `kid` and issuer so that one cannot stand in for another. */
export interface Sealer {
  /** @returns a compact JWE (RFC 7516), direct encryption with A256GCM. */
  seal(privateJwk: JWK, binding: { kid: string; issuer: IssuerName }): Promise<string>
  /** @throws {SigningKeyError} when the master key is another, or the text was tampered with or belongs to another key. */
  open(sealed: string, binding: { kid: string; issuer: IssuerName }): Promise<JWK>
}

/**
 * @param masterKey 32 bytes.
 * @throws {SigningKeyError} when it is longer or shorter.
 */
export function createSealer(masterKey: Uint8Array): Sealer {
  if (masterKey.length !== 32) throw new SigningKeyError('CURFEW_MASTER_KEY is not of 32 bytes')
  return {
    seal: (privateJwk, { kid, issuer }) =>
      new CompactEncrypt(new TextEncoder().encode(JSON.stringify(privateJwk)))
        .setProtectedHeader({ alg: 'dir', enc: 'A256GCM', kid, iss: issuer })
        .encrypt(masterKey),
    async open(sealed, { kid, issuer }) {
      try {
        const { plaintext, protectedHeader } = await compactDecrypt(sealed, masterKey, {
          keyManagementAlgorithms: ['dir'],
          contentEncryptionAlgorithms: ['A256GCM'],
        })
        if (protectedHeader.kid === kid && protectedHeader.iss === issuer) {
          return JSON.parse(new TextDecoder().decode(plaintext)) as JWK
        }
      } catch (error) {
        throw new SigningKeyError(
          `signing key ${kid} of ${issuer} cannot be opened: CURFEW_MASTER_KEY is not the one it was sealed with`,
          { cause: error },
        )
      }
      throw new SigningKeyError(
        `signing key ${kid} of ${issuer} cannot be opened: it was sealed as another key`,
      )
    },
  }
}
