import { SIGNING_ALGORITHMS, type SigningAlgorithm } from '@curfew/domain'
import { calculateJwkThumbprint, type JWK } from 'jose'
import { ALGORITHMS, MODULUS_BITS_MIN, signWith, verifyWith } from './algorithms.ts'

/** What is wrong with one member of a JWK; the empty name is the whole. Never a value of it. */
export interface JwkFault {
  readonly member: string
  readonly detail: string
}

/** A JWK that may be used, without what it has besides. */
export type CheckedJwk =
  | {
      readonly ok: true
      /** Its own, or its RFC 7638 thumbprint where it has none. */
      readonly kid: string
      readonly algorithm: SigningAlgorithm
      readonly publicJwk: JWK
      /** Null for a public key. */
      readonly privateJwk: JWK | null
    }
  | { readonly ok: false; readonly faults: readonly JwkFault[] }

const PUBLIC_MEMBERS = { RSA: ['n', 'e'], EC: ['crv', 'x', 'y'], OKP: ['crv', 'x'] } as const
const PRIVATE_MEMBERS = { RSA: ['d', 'p', 'q', 'dp', 'dq', 'qi'], EC: ['d'], OKP: ['d'] } as const
const BASE64URL = /^[\w-]+$/
const KID_LENGTH_MAX = 255
/** Those of 3, the least exponent of an RSA key (RFC 8017 3.1). */
const EXPONENT_BITS_MIN = 2

/**
 * Checks a JWK (RFC 7517) that somebody hands us to sign with, or that is said to verify what a signer elsewhere signs.
 *
 * @param algorithm what it is for, where the JWK itself has no `alg`.
 */
export async function checkSigningJwk(
  jwk: Readonly<Record<string, unknown>>,
  { algorithm: given, part }: { algorithm?: string | undefined; part: 'private' | 'public' },
): Promise<CheckedJwk> {
  const algorithm = SIGNING_ALGORITHMS.find((each) => each === (jwk.alg ?? given))
  if (algorithm === undefined) {
    return refused('alg', `must be one of ${SIGNING_ALGORITHMS.join(', ')}, here or as alg beside the key`)
  }
  if (given !== undefined && jwk.alg !== undefined && jwk.alg !== given)
    return refused('alg', 'is another than the alg beside the key')
  const { kty, crv } = ALGORITHMS[algorithm]
  if (jwk.kty !== kty) return refused('kty', `must be ${kty} for ${algorithm}`)
  if (crv !== undefined && jwk.crv !== crv) return refused('crv', `must be ${crv} for ${algorithm}`)
  const faults = [...memberFaults(jwk, kty, part), ...purposeFaults(jwk, part), ...kidFaults(jwk)]
  if (faults.length > 0) return { ok: false, faults }
  const publicJwk = picked(jwk, ['kty', ...PUBLIC_MEMBERS[kty]])
  const privateJwk = part === 'public' ? null : { ...publicJwk, ...picked(jwk, PRIVATE_MEMBERS[kty]) }
  const detail = await pairFault(publicJwk, privateJwk, algorithm)
  if (detail !== null) return refused('', detail)
  const kid = typeof jwk.kid === 'string' ? jwk.kid : await calculateJwkThumbprint(publicJwk)
  return { ok: true, kid, algorithm, publicJwk, privateJwk }
}

/** RFC 7638. @throws for what is no JWK. */
export function thumbprintOf(jwk: Readonly<Record<string, unknown>>): Promise<string> {
  return calculateJwkThumbprint(jwk as JWK)
}

function memberFaults(
  jwk: Readonly<Record<string, unknown>>,
  kty: 'RSA' | 'EC' | 'OKP',
  part: 'private' | 'public',
): JwkFault[] {
  const faults: JwkFault[] = []
  const wanted = [...PUBLIC_MEMBERS[kty], ...(part === 'private' ? PRIVATE_MEMBERS[kty] : [])]
  for (const member of wanted) {
    const value = jwk[member]
    if (typeof value === 'string' && BASE64URL.test(value)) continue
    const missing = value === undefined
    faults.push({
      member,
      detail: missing ? `is missing from this ${part} key` : 'must be text in base64url',
    })
  }
  if (part === 'public' && jwk.d !== undefined)
    faults.push({ member: 'd', detail: 'is a private member; the private part stays with the signer' })
  if (jwk.oth !== undefined) faults.push({ member: 'oth', detail: 'more than two primes are not supported' })
  if (kty === 'RSA' && typeof jwk.n === 'string' && BASE64URL.test(jwk.n) && bitsOf(jwk.n) < MODULUS_BITS_MIN)
    faults.push({ member: 'n', detail: `must have at least ${MODULUS_BITS_MIN} bits` })
  // With 1 the signature is the digest: anybody could make it.
  if (
    kty === 'RSA' &&
    typeof jwk.e === 'string' &&
    BASE64URL.test(jwk.e) &&
    bitsOf(jwk.e) < EXPONENT_BITS_MIN
  )
    faults.push({ member: 'e', detail: 'must be 3 or more' })
  return faults
}

/** RFC 7517 4.2 and 4.3. */
function purposeFaults(
  { use, key_ops: operations }: Readonly<Record<string, unknown>>,
  part: 'private' | 'public',
): JwkFault[] {
  const faults: JwkFault[] = []
  if (use !== undefined && use !== 'sig')
    faults.push({ member: 'use', detail: 'must be sig, or be left out' })
  const needed = part === 'private' ? 'sign' : 'verify'
  if (operations !== undefined && !(Array.isArray(operations) && operations.includes(needed)))
    faults.push({ member: 'key_ops', detail: `must include ${needed}, or be left out` })
  return faults
}

function kidFaults({ kid }: Readonly<Record<string, unknown>>): JwkFault[] {
  if (kid === undefined || (typeof kid === 'string' && kid.length > 0 && kid.length <= KID_LENGTH_MAX))
    return []
  return [{ member: 'kid', detail: `must be text of 1 to ${KID_LENGTH_MAX} characters, or be left out` }]
}

/** What is wrong with a key as a whole: it is none, or its halves do not belong together. */
async function pairFault(
  publicJwk: JWK,
  privateJwk: JWK | null,
  algorithm: SigningAlgorithm,
): Promise<string | null> {
  try {
    const good = verifyWith(publicJwk, algorithm)
    if (privateJwk === null) return null
    const input = Buffer.from('curfew')
    return good(input, await signWith(privateJwk, algorithm)(input))
      ? null
      : 'the private part belongs to another public part'
  } catch {
    // What the library says may quote the key.
    return `is no ${algorithm} key: its numbers do not fit together`
  }
}

function bitsOf(number: string): number {
  return BigInt(`0x0${Buffer.from(number, 'base64url').toString('hex')}`).toString(2).length
}

function picked(jwk: Readonly<Record<string, unknown>>, members: readonly string[]): JWK {
  return Object.fromEntries(members.map((member) => [member, jwk[member]])) as JWK
}

function refused(member: string, detail: string): CheckedJwk {
  return { ok: false, faults: [{ member, detail }] }
}
