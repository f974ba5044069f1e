import { compactDecrypt, errors, importJWK, type JWK } from 'jose'
import { headerOf } from './header.ts'

/** Asymmetric algorithms only. With a password (PBES2), the sender would choose how much work decryption costs. */
const KEY_MANAGEMENT = [
  'RSA-OAEP',
  'RSA-OAEP-256',
  'RSA-OAEP-384',
  'RSA-OAEP-512',
  'ECDH-ES',
  'ECDH-ES+A128KW',
  'ECDH-ES+A192KW',
  'ECDH-ES+A256KW',
]
const CONTENT_ENCRYPTION = [
  'A128GCM',
  'A192GCM',
  'A256GCM',
  'A128CBC-HS256',
  'A192CBC-HS384',
  'A256CBC-HS512',
]

/**
 * Decrypts a token that was encrypted to the RP (Back-Channel Logout 2.6 step 1). It uses the key that the header names or,
 * without a `kid`, the only key.
 *
 * @returns the inner token.
 * @throws {errors.JOSEError} if no key decrypts it.
 */
export async function decryptToken(jwe: string, keys: readonly JWK[]): Promise<string> {
  // A few compressed bytes can expand to gigabytes.
  if (headerOf(jwe).zip !== undefined) throw new errors.JOSENotSupported('zip is not supported')
  const { plaintext } = await compactDecrypt(
    jwe,
    ({ kid, alg }) => {
      const candidates = kid === undefined ? keys : keys.filter((key) => key.kid === kid)
      const [key] = candidates
      if (key === undefined || candidates.length > 1) throw new errors.JWEDecryptionFailed()
      return importJWK(key, alg)
    },
    { keyManagementAlgorithms: KEY_MANAGEMENT, contentEncryptionAlgorithms: CONTENT_ENCRYPTION },
  )
  return new TextDecoder().decode(plaintext)
}
