import type { SigningAlgorithm } from '@curfew/domain'
import type { JWK } from 'jose'
import { type SignInput, signWith } from './algorithms.ts'

/** Signs tokens with one key. */
export interface Signer {
  readonly kid: string
  readonly algorithm: SigningAlgorithm
  /**
   * @param typ the `typ` of the header (RFC 7515 4.1.9).
   * @param header what is different about the header, for a token that is not meant to be good; null takes a member away.
   * @returns the token as a compact JWS (RFC 7515), `typ` and `kid` in its header.
   * @throws {SignerUnavailableError} when the key is elsewhere and does not sign.
   */
  sign(typ: string, claims: object, header?: Readonly<Record<string, unknown>>): Promise<string>
}

/**
 * Every attempt signs, so this is done by node:crypto itself, with the header encoded once.
 *
 * @param privateJwk a private key that is good for `algorithm`.
 */
export function createSigner(
  privateJwk: JWK,
  { kid, algorithm }: { kid: string; algorithm: SigningAlgorithm },
): Signer {
  return signerOf(signWith(privateJwk, algorithm), { kid, algorithm })
}

/** @param signInput signs the signing input of a JWS (RFC 7515 5.1). */
export function signerOf(
  signInput: SignInput,
  { kid, algorithm }: { kid: string; algorithm: SigningAlgorithm },
): Signer {
  /** By `typ`: a handful, for each channel has one or two. */
  const goodHeaders = new Map<string, string>()
  const headerOf = (typ: string) => {
    const known = goodHeaders.get(typ) ?? encode({ alg: algorithm, kid, typ })
    goodHeaders.set(typ, known)
    return known
  }
  return {
    kid,
    algorithm,
    async sign(typ, claims, changes) {
      const header =
        changes === undefined ? headerOf(typ) : encodeHeader({ alg: algorithm, kid, typ }, changes)
      const input = `${header}.${encode(claims)}`
      const signature = await signInput(Buffer.from(input))
      return `${input}.${signature.toString('base64url')}`
    },
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
