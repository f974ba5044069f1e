import { createPublicKey, type JsonWebKeyInput } from 'node:crypto'
import { type EncryptionAlgorithm, NoEncryptionKeyError, type TokenEncryption } from '@curfew/domain'
import { CompactEncrypt, importJWK, type JWK } from 'jose'

const MODULUS_BYTES_MIN = 256
/** A limit, because checking thousands of keys would delay the tokens of other RPs. */
const KEYS_TRIED_MAX = 16
const CURVES: readonly unknown[] = ['P-256', 'P-384', 'P-521', 'X25519']
/** The `key_ops` values that allow encryption to a key (RFC 7517 4.3). */
const OPERATIONS = ['encrypt', 'wrapKey', 'deriveKey', 'deriveBits']

/**
 * Finds the key of an RP's JWK Set to encrypt its tokens to. It prefers the first key whose `use` or `alg` names encryption
 * (OIDC Core 10.2).
 *
 * @returns null if no key fits.
 */
export function findEncryptionKey(jwks: unknown, alg: EncryptionAlgorithm): JWK | null {
  const { keys } = Object(jwks) as { readonly keys?: unknown }
  if (!Array.isArray(keys)) return null
  const fitting = keys.filter((key): key is JWK => isFitting(key, alg))
  const byPurpose = Map.groupBy(fitting, ({ use, alg: keyAlg }) => use === 'enc' || keyAlg === alg)
  const inOrder = [...(byPurpose.get(true) ?? []), ...(byPurpose.get(false) ?? [])]
  return inOrder.slice(0, KEYS_TRIED_MAX).find(isPublicKey) ?? null
}

function isFitting(key: unknown, alg: EncryptionAlgorithm): boolean {
  const { kty, crv, n, use, alg: keyAlg, key_ops: operations } = Object(key) as Record<string, unknown>
  if (use !== undefined && use !== 'enc') return false
  if (keyAlg !== undefined && keyAlg !== alg) return false
  if (Array.isArray(operations) && !operations.some((operation) => OPERATIONS.includes(operation)))
    return false
  return alg.startsWith('RSA')
    ? kty === 'RSA' && typeof n === 'string' && Buffer.from(n, 'base64url').length >= MODULUS_BYTES_MIN
    : (kty === 'EC' || kty === 'OKP') && CURVES.includes(crv)
}

/** Whether the JWK's numbers form a key. This finds a point off its curve at registration, not at the first logout. */
function isPublicKey(key: JWK): boolean {
  try {
    createPublicKey({ key: bareOf(key) as JsonWebKeyInput['key'], format: 'jwk' })
    return true
  } catch {
    // The numbers do not form a key.
    return false
  }
}

/** Keeps only the members that define the key. `isFitting` checks the others. */
function bareOf({ kty, crv, x, y, n, e }: JWK): JWK {
  return (kty === 'RSA' ? { kty, n, e } : { kty, crv, x, ...(y !== undefined && { y }) }) as JWK
}

/**
 * Encrypts a signed token to one RP as a nested JWT (RFC 7519 5.2, 5.3). The outer header repeats `iss`, which tells the RP whose
 * keys verify the inner token (Back-Channel Logout 2.4).
 *
 * @param jwks the RP's JWK Set. @param typ the `typ` of both headers; null for headers without it.
 * @returns a compact JWE (RFC 7516).
 * @throws {NoEncryptionKeyError} if no key fits the algorithm, or the chosen key cannot encrypt with it.
 */
export async function encryptToken(
  token: string,
  {
    alg,
    enc,
    jwks,
    iss,
    typ,
  }: Pick<TokenEncryption, 'alg' | 'enc' | 'jwks'> & { readonly iss: string; readonly typ: string | null },
): Promise<string> {
  const key = findEncryptionKey(jwks, alg)
  if (key === null) throw new NoEncryptionKeyError(`the JWK Set of the RP has no key for ${alg}`)
  const { kty, kid } = key
  try {
    return await new CompactEncrypt(new TextEncoder().encode(token))
      .setProtectedHeader({
        alg,
        enc,
        cty: 'JWT',
        ...(typ !== null && { typ }),
        iss,
        ...(typeof kid === 'string' && { kid }),
      })
      .encrypt(await importJWK(bareOf(key), alg))
  } catch (error) {
    const name = typeof kid === 'string' ? ` ${kid}` : ''
    throw new NoEncryptionKeyError(`the ${kty} key${name} of the RP cannot be used with ${alg}`, {
      cause: error,
    })
  }
}
