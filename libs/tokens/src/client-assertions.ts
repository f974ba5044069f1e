import { createHmac } from 'node:crypto'
import { ClientKeyError } from '@curfew/domain'
import { checkSigningJwk } from './key-check.ts'
import { createSigner, encode, encodeHeader, renamed } from './signer.ts'

/** The algorithms that sign with a secret text (RFC 7518 section 3.2), and their hashes. */
const HMACS: ReadonlyMap<string, string> = new Map([
  ['HS256', 'sha256'],
  ['HS384', 'sha384'],
  ['HS512', 'sha512'],
])

/**
 * Signs the assertion with which a client authenticates itself (RFC 7523 section 2.2).
 *
 * @param secret the secret of the client for the algorithms HS256, HS384 and HS512, otherwise its private JWK.
 * @param algorithm null: that of the JWK.
 * @returns a compact JWS, with the `kid` of the JWK if it has one.
 * @throws {ClientKeyError} if the secret is no private JWK for the algorithm.
 */
export async function signAssertion(
  secret: string,
  algorithm: string | null,
  claims: object,
): Promise<string> {
  const hash = HMACS.get(algorithm ?? '')
  if (hash !== undefined) {
    const input = `${encodeHeader({ alg: algorithm, typ: 'JWT' }, {})}.${encode(claims)}`
    return `${input}.${createHmac(hash, secret).update(input).digest('base64url')}`
  }
  const jwk = parsed(secret)
  const given = algorithm ?? (jwk.alg === undefined && jwk.kty === 'RSA' ? 'RS256' : undefined)
  const checked = await checkSigningJwk(jwk, { algorithm: given, part: 'private' })
  if (!checked.ok || checked.privateJwk === null) {
    const fault = checked.ok ? 'it is a public key' : checked.faults.map(faultText).join(', ')
    throw new ClientKeyError(`the secret is no private JWK that can sign: ${fault}`)
  }
  const signer = createSigner(checked.privateJwk, checked)
  const named = algorithm === 'Ed25519' ? renamed(signer, algorithm) : signer
  return named.sign('JWT', claims, typeof jwk.kid === 'string' ? {} : { kid: null })
}

function parsed(secret: string): Readonly<Record<string, unknown>> {
  try {
    const jwk: unknown = JSON.parse(secret)
    if (typeof jwk === 'object' && jwk !== null) return jwk as Readonly<Record<string, unknown>>
  } catch {
    // The error below says what is wrong. The text of JSON.parse may repeat a part of the secret.
  }
  throw new ClientKeyError('the secret is no private JWK that can sign: it is not a JSON object')
}

function faultText({ member, detail }: { readonly member: string; readonly detail: string }): string {
  return member === '' ? detail : `${member} ${detail}`
}
