import { CONTENT_ENCRYPTIONS, ENCRYPTION_ALGORITHMS } from '@curfew/domain'
import type { Fault } from '@curfew/runtime'
import { findEncryptionKey } from '@curfew/tokens'

/**
 * What is wrong with what OIDC client metadata says of encrypted ID tokens, and so of logout tokens.
 *
 * @param targetFault what is wrong with an address that is to be fetched from, in words, or null.
 */
export function encryptionFaults(
  metadata: Readonly<Record<string, unknown>>,
  targetFault: (uri: string) => string | null,
): Fault[] {
  const {
    id_token_encrypted_response_alg: alg,
    id_token_encrypted_response_enc: enc,
    jwks,
    jwks_uri,
  } = metadata
  if (alg === undefined) {
    if (enc === undefined) return []
    return [
      {
        pointer: '/id_token_encrypted_response_enc',
        detail: 'must come with id_token_encrypted_response_alg, or be left out',
      },
    ]
  }
  const known = ENCRYPTION_ALGORITHMS.find((each) => each === alg)
  if (known === undefined) {
    const detail = `must be one of ${ENCRYPTION_ALGORITHMS.join(', ')}: logout tokens are encrypted like ID tokens`
    return [{ pointer: '/id_token_encrypted_response_alg', detail }]
  }
  if (enc !== undefined && !CONTENT_ENCRYPTIONS.some((each) => each === enc)) {
    const detail = `must be one of ${CONTENT_ENCRYPTIONS.join(', ')}`
    return [{ pointer: '/id_token_encrypted_response_enc', detail }]
  }
  if (jwks !== undefined && jwks !== null) {
    if (findEncryptionKey(jwks, known) !== null) return []
    return [
      {
        pointer: '/jwks',
        detail: `must have a public key that ${known} can encrypt to, its use enc or left out`,
      },
    ]
  }
  if (typeof jwks_uri !== 'string') {
    const detail = 'is required, or jwks is: tokens are encrypted to a key of the relying party'
    return [{ pointer: '/jwks_uri', detail }]
  }
  const detail = targetFault(jwks_uri)
  return detail === null ? [] : [{ pointer: '/jwks_uri', detail }]
}
