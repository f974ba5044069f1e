import { compactVerify, errors } from 'jose'
import { AnswerRefusedError } from '../errors.ts'
import type { FeedKeys } from './keys.ts'
import type { Answer } from './state.ts'

const TYPE = 'revocations+jwt'
/** With a symmetric algorithm, any reader of the public keys could sign (RFC 8725 2.1). */
const ALGORITHMS = [
  ...['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'],
  ...['ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519'],
]
const KEY = /^[\w-]{22}$/
const SECOND_MAX = 2 ** 32 - 1

/**
 * Verifies an answer of the feed and reads its claims.
 *
 * @param jws a compact JWS.
 * @throws {AnswerRefusedError} if it is not an answer that the issuer's Curfew signed.
 */
export async function readAnswer(
  jws: string,
  { issuer, keys }: { readonly issuer: string; readonly keys: FeedKeys },
): Promise<Answer> {
  let payload: Uint8Array
  try {
    const verified = await compactVerify(jws, keys, { algorithms: ALGORITHMS })
    if (typeOf(verified.protectedHeader.typ) !== TYPE) throw new AnswerRefusedError(`its typ is not ${TYPE}`)
    payload = verified.payload
  } catch (cause) {
    if (!(cause instanceof errors.JOSEError)) throw cause
    throw new AnswerRefusedError(`the signature of the answer was not accepted: ${cause.code}`, { cause })
  }
  let claims: unknown
  try {
    claims = JSON.parse(new TextDecoder().decode(payload))
  } catch (cause) {
    throw new AnswerRefusedError('its claims are not JSON', { cause })
  }
  return answerOf(Object(claims) as Record<string, unknown>, issuer)
}

function typeOf(typ: unknown): unknown {
  return typeof typ === 'string' ? typ.toLowerCase().replace(/^application\//, '') : typ
}

function answerOf(claims: Record<string, unknown>, issuer: string): Answer {
  if (claims.iss !== issuer) throw new AnswerRefusedError(`its iss is not ${issuer}`)
  const number = (claim: string, accepts: (value: number) => boolean): number => {
    const value = claims[claim]
    if (typeof value === 'number' && accepts(value)) return value
    throw new AnswerRefusedError(`its ${claim} is missing or wrong`)
  }
  const isSeq = (value: number) => Number.isSafeInteger(value) && value >= 0
  const isPositive = (value: number) => Number.isFinite(value) && value > 0
  const { after, issuer_before: everybody, entries } = claims
  if (!Array.isArray(entries) || !entries.every(isEntry))
    throw new AnswerRefusedError('its entries are missing or wrong')
  return {
    // Absent would be the answer of another protocol, so it is not read as a snapshot.
    after: after === null ? null : number('after', isSeq),
    seq: number('seq', isSeq),
    issuedMs: number('iat', isPositive) * 1_000,
    asOfMs: number('as_of', isPositive) * 1_000,
    maxStalenessMs: number('max_staleness', isPositive) * 1_000,
    maxTokenTtlS: number('max_token_ttl', isPositive),
    everybodyBefore: everybody === null ? 0 : number('issuer_before', isSecond),
    entries,
  }
}

function isEntry(entry: unknown): entry is readonly [string, number] {
  return Array.isArray(entry) && typeof entry[0] === 'string' && KEY.test(entry[0]) && isSecond(entry[1])
}

function isSecond(value: unknown): value is number {
  return Number.isInteger(value) && Number(value) > 0 && Number(value) <= SECOND_MAX
}
