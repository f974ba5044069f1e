import {
  CONTENT_ENCRYPTIONS,
  DEFAULT_CONTENT_ENCRYPTION,
  ENCRYPTION_ALGORITHMS,
  type readClient,
} from '@curfew/domain'
import type { StoredEncryption } from '@curfew/ledger'
import type { Fault } from '@curfew/runtime'
import { findEncryptionKey } from '@curfew/tokens'

type Client = Pick<ReturnType<typeof readClient>, 'encryption' | 'contentEncryption' | 'jwks' | 'jwksUri'>

/**
 * How a client wants its ID tokens, and so logout tokens, encrypted (null: not at all); or what is wrong with that.
 *
 * @param targetFault what is wrong with an address that is to be fetched from, in words, or null.
 */
export function encryptionOf(
  { encryption, contentEncryption, jwks, jwksUri }: Client,
  targetFault: (uri: string) => string | null,
): StoredEncryption | Fault | null {
  if (encryption === null) {
    if (contentEncryption === null) return null
    return {
      pointer: contentEncryption.pointer,
      detail: 'must come with the algorithm that the key is for, or be left out',
    }
  }
  const alg = ENCRYPTION_ALGORITHMS.find((each) => each === encryption.value)
  if (alg === undefined) {
    const detail = `must be one of ${ENCRYPTION_ALGORITHMS.join(', ')}: logout tokens are encrypted like ID tokens`
    return { pointer: encryption.pointer, detail }
  }
  const enc =
    contentEncryption === null
      ? DEFAULT_CONTENT_ENCRYPTION
      : CONTENT_ENCRYPTIONS.find((each) => each === contentEncryption.value)
  if (enc === undefined) {
    const detail = `must be one of ${CONTENT_ENCRYPTIONS.join(', ')}`
    return { pointer: contentEncryption?.pointer ?? '', detail }
  }
  if (jwks !== null) {
    if (findEncryptionKey(jwks.value, alg) !== null) return { alg, enc, jwks: jwks.value }
    return {
      pointer: jwks.pointer,
      detail: `must have a public key that ${alg} can encrypt to, its use enc or left out`,
    }
  }
  const uri = jwksUri?.value
  if (typeof uri !== 'string') {
    const detail = 'is required, or jwks is: tokens are encrypted to a key of the relying party'
    return { pointer: jwksUri?.pointer ?? '/jwks_uri', detail }
  }
  const detail = targetFault(uri)
  return detail === null ? { alg, enc, jwks_uri: uri } : { pointer: jwksUri?.pointer ?? '/jwks_uri', detail }
}
