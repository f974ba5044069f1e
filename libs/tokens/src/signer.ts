import type { SigningAlgorithm, TokenAlgorithm } from '@curfew/domain'
import type { JWK } from 'jose'
import { type SignInput, signWith } from './algorithms.ts'

/** Signs tokens with one key. */
export interface Signer {
  readonly kid: string
  /** The `alg` of the header. */
  readonly algorithm: TokenAlgorithm
  /**
   * @param typ the `typ` of the header (RFC 7515 4.1.9); null for a header without it.
   * @param header changes of the header, for a token that is wrong on purpose; null removes a member.
   * @returns the token as a compact JWS (RFC 7515), with `kid` in its header.
   * @throws {SignerUnavailableError} if the signer is remote and does not sign.
   */
  sign(typ: string | null, claims: object, header?: Readonly<Record<string, unknown>>): Promise<string>
}

/**
 * Creates a signer from a private key. It uses node:crypto directly and encodes each header once, because every attempt signs.
 *
 * @param privateJwk a private key for `algorithm`.
 */
export function createSigner(
  privateJwk: JWK,
  { kid, algorithm }: { kid: string; algorithm: SigningAlgorithm },
): Signer {
  return signerOf(signWith(privateJwk, algorithm), { kid, algorithm })
}

/** Creates a signer from a function. @param signInput signs the signing input of a JWS (RFC 7515 5.1). */
export function signerOf(
  signInput: SignInput,
  { kid, algorithm }: { kid: string; algorithm: SigningAlgorithm },
): Signer {
  /** Encoded headers by `typ`. They are few: a channel uses one or two types. */
  const goodHeaders = new Map<string | null, string>()
  const headerOf = (typ: string | null) => {
    const known = goodHeaders.get(typ) ?? encodeHeader({ alg: algorithm, kid, typ }, {})
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

/** The same signer with another name of its algorithm in the header. */
export function renamed(signer: Signer, algorithm: TokenAlgorithm): Signer {
  return {
    ...{ kid: signer.kid, algorithm },
    sign: (typ, claims, changes) => signer.sign(typ, claims, { alg: algorithm, ...changes }),
  }
}

/** Encodes a header with some members changed. A member that is null is left out. */
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
