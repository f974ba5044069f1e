import { createPublicKey, type JsonWebKeyInput } from 'node:crypto'
import { type EncryptionAlgorithm, NoEncryptionKeyError, type TokenEncryption } from '@curfew/domain'
import { CompactEncrypt, importJWK, type JWK } from 'jose'

const MODULUS_BYTES_MIN = 256
/** A key set of thousands would take time from everybody else's tokens. */
const KEYS_TRIED_MAX = 16
const CURVES: readonly unknown[] = ['P-256', 'P-384', 'P-521', 'X25519']
/** What a key may be used for, in the words of RFC 7517 4.3, if it is to be encrypted to. */
const OPERATIONS = ['encrypt', 'wrapKey', 'deriveKey', 'deriveBits']

/**
 * The key of a JWK Set that tokens for its owner are encrypted to; null where none fits. Of several, the first that says
 * it is for this (OIDC Core 10.2).
 */
export function findEncryptionKey(jwks: unknown, alg: EncryptionAlgorithm): JWK | null {
  const { keys } = Object(jwks) as { readonly keys?: unknown }
  if (!Array.isArray(keys)) return null
  const fitting = keys.filter((key): key is JWK => isFitting(key, alg))
  const saysSo = Map.groupBy(fitting, ({ use, alg: of }) => use === 'enc' || of === alg)
  const inOrder = [...(saysSo.get(true) ?? []), ...(saysSo.get(false) ?? [])]
  return inOrder.slice(0, KEYS_TRIED_MAX).find(isPublicKey) ?? null
}

function isFitting(key: unknown, alg: EncryptionAlgorithm): boolean {
  const { kty, crv, n, use, alg: of, key_ops: operations } = Object(key) as Record<string, unknown>
  if (use !== undefined && use !== 'enc') return false
  if (of !== undefined && of !== alg) return false
  if (Array.isArray(operations) && !operations.some((each) => OPERATIONS.includes(each))) return false
  return alg.startsWith('RSA')
    ? kty === 'RSA' && typeof n === 'string' && Buffer.from(n, 'base64url').length >= MODULUS_BYTES_MIN
    : (kty === 'EC' || kty === 'OKP') && CURVES.includes(crv)
}

/** Whether its numbers are a key: a point that is not on its curve is found out when it is registered, not at the first logout. */
function isPublicKey(key: JWK): boolean {
  try {
    createPublicKey({ key: bareOf(key) as JsonWebKeyInput['key'], format: 'jwk' })
    return true
  } catch {
    // None that could be encrypted to.
    return false
  }
}

/** Only what the key is: what it says besides is looked at elsewhere. */
function bareOf({ kty, crv, x, y, n, e }: JWK): JWK {
  return (kty === 'RSA' ? { kty, n, e } : { kty, crv, x, ...(y !== undefined && { y }) }) as JWK
}

/**
 * Encrypts a signed token to one RP: a nested JWT (RFC 7519 5.2, 5.3), its issuer told in the header too, so that who
 * decrypts knows whose keys to verify with (Back-Channel Logout 2.4).
 *
 * @param jwks keys of the RP. @param typ the `typ` of both headers.
 * @returns a compact JWE (RFC 7516).
 * @throws {NoEncryptionKeyError} when none of the keys fits, or the one that says so does not.
 */
export async function encryptToken(
  token: string,
  {
    alg,
    enc,
    jwks,
    iss,
    typ,
  }: Pick<TokenEncryption, 'alg' | 'enc' | 'jwks'> & { readonly iss: string; readonly typ: string },
): Promise<string> {
  const key = findEncryptionKey(jwks, alg)
  if (key === null) throw new NoEncryptionKeyError(`none of its keys is for ${alg}`)
  const { kty, kid } = key
  try {
    return await new CompactEncrypt(new TextEncoder().encode(token))
      .setProtectedHeader({
        alg,
        enc,
        cty: 'JWT',
        typ,
        iss,
        ...(typeof kid === 'string' && { kid }),
      })
      .encrypt(await importJWK(bareOf(key), alg))
  } catch (error) {
    const named = typeof kid === 'string' ? ` ${kid}` : ''
    throw new NoEncryptionKeyError(`its key${named} is no ${kty} key that ${alg} can encrypt to`, {
      cause: error,
    })
  }
}
