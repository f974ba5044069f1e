import { isTokenAlgorithm, keyAlgorithmFault, keyAlgorithmOf, type SigningAlgorithm } from '@curfew/domain'
import { calculateJwkThumbprint, type JWK } from 'jose'
import { ALGORITHMS, MODULUS_BITS_MIN, signWith, verifyWith } from './algorithms.ts'

/** A fault of one member of a JWK. The empty name means the whole JWK. `detail` never contains a value of the key. */
export interface JwkFault {
  readonly member: string
  readonly detail: string
}

/** The result of a check: a usable key without its other members, or the faults. */
export type CheckedJwk =
  | {
      readonly ok: true
      /** The `kid` of the JWK or, if it has none, the RFC 7638 thumbprint. */
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
/** Goes into the ledger, into URLs and onto terminals, so it has no control characters. */
const KID = /^[^\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]{1,255}$/u
/** The bits of 3, which is the least exponent of an RSA key (RFC 8017 3.1). */
const EXPONENT_BITS_MIN = 2

/**
 * Checks a JWK (RFC 7517): a private key that an operator imports, or the public key of a remote signer.
 *
 * @param algorithm the algorithm of the key, if the JWK has no `alg`.
 */
export async function checkSigningJwk(
  jwk: Readonly<Record<string, unknown>>,
  { algorithm: given, part }: { algorithm?: string | undefined; part: 'private' | 'public' },
): Promise<CheckedJwk> {
  const unfit = kindFault(jwk)
  if (unfit !== null) return { ok: false, faults: [unfit] }
  const named = jwk.alg ?? given ?? onlyAlgorithmOf(jwk)
  const detail = keyAlgorithmFault(named)
  if (!isTokenAlgorithm(named))
    return refused('alg', named === null ? `${detail}, in the JWK or beside it` : (detail ?? ''))
  const algorithm = keyAlgorithmOf(named)
  if (given !== undefined && isTokenAlgorithm(given) && algorithm !== keyAlgorithmOf(given))
    return refused('alg', `must be ${given}, the alg beside the JWK`)
  const { kty, crv } = ALGORITHMS[algorithm]
  if (jwk.kty !== kty) return refused('kty', `must be ${kty} for ${algorithm}`)
  if (crv !== undefined && jwk.crv !== crv) return refused('crv', `must be ${crv} for ${algorithm}`)
  const faults = [...memberFaults(jwk, kty, part), ...purposeFaults(jwk, part), ...kidFaults(jwk)]
  if (faults.length > 0) return { ok: false, faults }
  const publicJwk = picked(jwk, ['kty', ...PUBLIC_MEMBERS[kty]])
  const privateJwk = part === 'public' ? null : { ...publicJwk, ...picked(jwk, PRIVATE_MEMBERS[kty]) }
  const pair = await pairFault(publicJwk, privateJwk, algorithm)
  if (pair !== null) return refused('', pair)
  const kid = typeof jwk.kid === 'string' ? jwk.kid : await calculateJwkThumbprint(publicJwk)
  return { ok: true, kid, algorithm, publicJwk, privateJwk }
}

/** The fault of a kind of key that no algorithm of Curfew uses. */
function kindFault({ kty, crv }: Readonly<Record<string, unknown>>): JwkFault | null {
  if (kty === 'oct')
    return {
      member: 'kty',
      detail: 'must be RSA, EC or OKP: oct is a shared secret, with which RPs verify nothing',
    }
  if (crv === 'secp256k1' || crv === 'P-256K')
    return { member: 'crv', detail: keyAlgorithmFault('ES256K') ?? '' }
  if (crv === 'Ed448') return { member: 'crv', detail: keyAlgorithmFault('Ed448') ?? '' }
  if (crv === 'X25519' || crv === 'X448')
    return {
      member: 'crv',
      detail: `must not be ${crv}: it is for encryption. Give a key that signs, such as Ed25519`,
    }
  return null
}

/** The algorithm of a key without `alg`; null if several fit, as for RSA. */
function onlyAlgorithmOf({ kty, crv }: Readonly<Record<string, unknown>>): SigningAlgorithm | null {
  const fitting = (Object.keys(ALGORITHMS) as SigningAlgorithm[]).filter(
    (name) => ALGORITHMS[name].kty === kty && ALGORITHMS[name].crv === crv,
  )
  return crv === undefined ? null : (fitting[0] ?? null)
}

/** The RFC 7638 thumbprint. @throws if the value is not a JWK. */
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
      detail: missing ? `is missing; a ${part} key needs it` : 'must be a base64url string',
    })
  }
  if (part === 'public' && jwk.d !== undefined)
    faults.push({ member: 'd', detail: 'is private; leave it out, the private key stays with the signer' })
  if (jwk.oth !== undefined)
    faults.push({
      member: 'oth',
      detail: 'must be left out: keys with more than two primes are not supported',
    })
  if (kty === 'RSA' && typeof jwk.n === 'string' && BASE64URL.test(jwk.n) && bitsOf(jwk.n) < MODULUS_BITS_MIN)
    faults.push({ member: 'n', detail: `must have at least ${MODULUS_BITS_MIN} bits` })
  // With exponent 1 the signature equals the padded digest, so anyone could forge it.
  if (
    kty === 'RSA' &&
    typeof jwk.e === 'string' &&
    BASE64URL.test(jwk.e) &&
    bitsOf(jwk.e) < EXPONENT_BITS_MIN
  )
    faults.push({ member: 'e', detail: 'must be 3 or more' })
  return faults
}

/** Checks `use` and `key_ops` (RFC 7517 4.2, 4.3). */
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

/** Whether a value can be the id of a key. */
export function isKid(value: unknown): value is string {
  return typeof value === 'string' && KID.test(value)
}

function kidFaults({ kid }: Readonly<Record<string, unknown>>): JwkFault[] {
  if (kid === undefined || isKid(kid)) return []
  const detail = 'must be a text of 1 to 255 characters without control characters, or be left out'
  return [{ member: 'kid', detail }]
}

/** The fault of the key as a whole: its numbers form no key, or its two halves do not match. Null if there is none. */
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
      : 'its private part does not match its public part'
  } catch {
    // The library's own message may quote the key.
    return `is not a valid ${algorithm} key: its numbers do not fit together`
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
