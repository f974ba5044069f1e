import { LOGOUT_TOKEN_TYPE, type LogoutTokenClaims, type SigningAlgorithm } from '@curfew/domain'
import { CompactSign, type CryptoKey, importJWK, type JWK } from 'jose'

/** Signs logout tokens with one key. */
export interface Signer {
  readonly kid: string
  readonly algorithm: SigningAlgorithm
  /** @returns the token as a compact JWS (RFC 7515), `typ` and `kid` in its header. */
  sign(claims: LogoutTokenClaims): Promise<string>
}

/** @param privateJwk a private key that is good for `algorithm`. */
export async function createSigner(
  privateJwk: JWK,
  { kid, algorithm }: { kid: string; algorithm: SigningAlgorithm },
): Promise<Signer> {
  const key = (await importJWK(privateJwk, algorithm)) as CryptoKey
  const header = { alg: algorithm, kid, typ: LOGOUT_TOKEN_TYPE }
  return {
    kid,
    algorithm,
    sign: (claims) =>
      new CompactSign(new TextEncoder().encode(JSON.stringify(claims))).setProtectedHeader(header).sign(key),
  }
}
