import {
  constants,
  createPrivateKey,
  createPublicKey,
  type JsonWebKeyInput,
  type KeyObject,
  sign,
  verify,
} from 'node:crypto'
import { promisify } from 'node:util'
import type { SigningAlgorithm } from '@curfew/domain'
import type { JWK } from 'jose'

/** A JWS algorithm in the words of node:crypto, and what kind of key it takes (RFC 7518 3.1, RFC 8037 3.1). */
interface Words {
  readonly kty: 'RSA' | 'EC' | 'OKP'
  readonly crv?: string
  /** Null: the algorithm has its own (EdDSA). */
  readonly hash: string | null
  readonly options: Readonly<Record<string, unknown>>
}

const PKCS1 = { padding: constants.RSA_PKCS1_PADDING }
const PSS = { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST }
const JOSE_ECDSA = { dsaEncoding: 'ieee-p1363' }

export const ALGORITHMS: Readonly<Record<SigningAlgorithm, Words>> = {
  RS256: { kty: 'RSA', hash: 'sha256', options: PKCS1 },
  RS384: { kty: 'RSA', hash: 'sha384', options: PKCS1 },
  RS512: { kty: 'RSA', hash: 'sha512', options: PKCS1 },
  PS256: { kty: 'RSA', hash: 'sha256', options: PSS },
  PS384: { kty: 'RSA', hash: 'sha384', options: PSS },
  PS512: { kty: 'RSA', hash: 'sha512', options: PSS },
  ES256: { kty: 'EC', crv: 'P-256', hash: 'sha256', options: JOSE_ECDSA },
  ES384: { kty: 'EC', crv: 'P-384', hash: 'sha384', options: JOSE_ECDSA },
  ES512: { kty: 'EC', crv: 'P-521', hash: 'sha512', options: JOSE_ECDSA },
  EdDSA: { kty: 'OKP', crv: 'Ed25519', hash: null, options: {} },
}

/** Least length of an RSA key (RFC 7518 3.3). */
export const MODULUS_BITS_MIN = 2_048

export type SignInput = (input: Buffer) => Buffer | Promise<Buffer>

const signInThreadPool = promisify(sign)

/**
 * An elliptic curve's signature takes less time than handing it to another thread and back, so it is made at once; RSA's
 * takes ten times that, and must not hold up everything else.
 *
 * @throws what node:crypto throws for a JWK that is no private key.
 */
export function signWith(privateJwk: JWK, algorithm: SigningAlgorithm): SignInput {
  const key = createPrivateKey({ key: privateJwk as JsonWebKeyInput['key'], format: 'jwk' })
  const { kty, hash, options } = ALGORITHMS[algorithm]
  const keyed = { key, ...options }
  return kty === 'RSA' ? (input) => signInThreadPool(hash, input, keyed) : (input) => sign(hash, input, keyed)
}

/** Whether a signature is good. @throws what node:crypto throws for a JWK that is no public key. */
export function verifyWith(
  publicJwk: JWK,
  algorithm: SigningAlgorithm,
): (input: Buffer, signature: Buffer) => boolean {
  const key: KeyObject = createPublicKey({ key: publicJwk as JsonWebKeyInput['key'], format: 'jwk' })
  const { hash, options } = ALGORITHMS[algorithm]
  return (input, signature) => verify(hash, input, { key, ...options }, signature)
}
