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

/** The parameters of a JWS algorithm for node:crypto, and the kind of key it takes (RFC 7518 3.1, RFC 8037 3.1). */
interface AlgorithmParameters {
  readonly kty: 'RSA' | 'EC' | 'OKP'
  readonly crv?: string
  /** Null for EdDSA, which fixes its own hash. */
  readonly hash: string | null
  readonly options: Readonly<Record<string, unknown>>
}

const PKCS1 = { padding: constants.RSA_PKCS1_PADDING }
const PSS = { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST }
const JOSE_ECDSA = { dsaEncoding: 'ieee-p1363' }

export const ALGORITHMS: Readonly<Record<SigningAlgorithm, AlgorithmParameters>> = {
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

/** The least length of an RSA modulus, in bits (RFC 7518 3.3). */
export const MODULUS_BITS_MIN = 2_048

export type SignInput = (input: Buffer) => Buffer | Promise<Buffer>

const signInThreadPool = promisify(sign)

/**
 * Creates a function that signs with a private key. It signs with elliptic curves on the calling thread, which is faster than a
 * round trip to another thread. RSA takes ten times as long, so it runs in the thread pool and does not block the event loop.
 *
 * @throws the error of node:crypto if the JWK is not a private key.
 */
export function signWith(privateJwk: JWK, algorithm: SigningAlgorithm): SignInput {
  const key = createPrivateKey({ key: privateJwk as JsonWebKeyInput['key'], format: 'jwk' })
  const { kty, hash, options } = ALGORITHMS[algorithm]
  const keyed = { key, ...options }
  return kty === 'RSA' ? (input) => signInThreadPool(hash, input, keyed) : (input) => sign(hash, input, keyed)
}

/**
 * Creates a function that verifies signatures with a public key.
 *
 * @throws the error of node:crypto if the JWK is not a public key.
 */
export function verifyWith(
  publicJwk: JWK,
  algorithm: SigningAlgorithm,
): (input: Buffer, signature: Buffer) => boolean {
  const key: KeyObject = createPublicKey({ key: publicJwk as JsonWebKeyInput['key'], format: 'jwk' })
  const { hash, options } = ALGORITHMS[algorithm]
  return (input, signature) => verify(hash, input, { key, ...options }, signature)
}
