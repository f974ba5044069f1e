import { constants, createPrivateKey, type JsonWebKeyInput, type KeyObject, sign } from 'node:crypto'
import { promisify } from 'node:util'
import { LOGOUT_TOKEN_TYPE, type LogoutTokenClaims, type SigningAlgorithm } from '@curfew/domain'
import type { JWK } from 'jose'

/** Signs logout tokens with one key. */
export interface Signer {
  readonly kid: string
  readonly algorithm: SigningAlgorithm
  /**
   * @param header what is different about the header, for a token that is not meant to be good; null takes a member away.
   * @returns the token as a compact JWS (RFC 7515), `typ` and `kid` in its header.
   */
  sign(
    claims: LogoutTokenClaims | Readonly<Record<string, unknown>>,
    header?: Readonly<Record<string, unknown>>,
  ): Promise<string>
}

type Sign = (input: Buffer) => Buffer | Promise<Buffer>

const signInThreadPool = promisify(sign)

/**
 * Every attempt signs, so this is done by node:crypto itself, with the header encoded once.
 *
 * @param privateJwk a private key that is good for `algorithm`.
 */
export function createSigner(
  privateJwk: JWK,
  { kid, algorithm }: { kid: string; algorithm: SigningAlgorithm },
): Signer {
  const signInput = signWith(
    createPrivateKey({ key: privateJwk as JsonWebKeyInput['key'], format: 'jwk' }),
    algorithm,
  )
  const good = { alg: algorithm, kid, typ: LOGOUT_TOKEN_TYPE }
  const goodHeader = encode(good)
  return {
    kid,
    algorithm,
    async sign(claims, changes) {
      const header = changes === undefined ? goodHeader : encodeHeader(good, changes)
      const input = `${header}.${encode(claims)}`
      const signature = await signInput(Buffer.from(input))
      return `${input}.${signature.toString('base64url')}`
    },
  }
}

/**
 * The JWS algorithms in the words of node:crypto (RFC 7518 3.3 to 3.5, RFC 8037 3.1). An elliptic curve's signature takes
 * less time than handing it to another thread and back, so it is made at once; RSA's takes ten times that, and must not
 * hold up everything else.
 */
function signWith(key: KeyObject, algorithm: SigningAlgorithm): Sign {
  switch (algorithm) {
    case 'EdDSA':
      return (input) => sign(null, input, key)
    case 'ES256':
      return (input) => sign('sha256', input, { key, dsaEncoding: 'ieee-p1363' })
    case 'RS256':
      return (input) => signInThreadPool('sha256', input, { key, padding: constants.RSA_PKCS1_PADDING })
    case 'PS256': {
      const pss = { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST }
      return (input) => signInThreadPool('sha256', input, { key, ...pss })
    }
  }
}

/** A header with some members changed, or taken away where they are null. */
export function encodeHeader(
  good: Readonly<Record<string, unknown>>,
  changes: Readonly<Record<string, unknown>>,
): string {
  const members = Object.entries({ ...good, ...changes }).filter(([, value]) => value !== null)
  return encode(Object.fromEntries(members))
}

export function encode(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url')
}
