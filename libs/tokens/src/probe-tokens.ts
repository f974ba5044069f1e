import { createHmac, createPublicKey, type JsonWebKeyInput } from 'node:crypto'
import { keyAlgorithmOf, type TokenSignature } from '@curfew/domain'
import { exportJWK, generateKeyPair } from 'jose'
import { createSigner, encode, encodeHeader, renamed, type Signer } from './signer.ts'

type Claims = Readonly<Record<string, unknown>>

/** Makes the tokens of a probe: good tokens, and tokens that a relying party must refuse. */
export interface ProbeTokens {
  /**
   * @param typ as for `Signer.sign`. @param header changes of the header; null removes a member.
   * @returns a compact JWS; for `none` its signature is empty.
   * @throws as `Signer.sign` does.
   */
  make(
    typ: string | null,
    claims: Claims,
    how?: {
      readonly signature?: TokenSignature | undefined
      readonly header?: Readonly<Record<string, unknown>> | undefined
    },
  ): Promise<string>
}

/** @param publicJwk the published public key of the signer. */
export function createProbeTokens(signer: Signer, publicJwk: Readonly<Record<string, unknown>>): ProbeTokens {
  let stranger: Promise<Signer> | null = null
  const unsigned = (alg: string, typ: string | null, claims: Claims, header: Claims) =>
    `${encodeHeader({ alg, kid: signer.kid, typ }, header)}.${encode(claims)}`

  function keyedWithPublic(secret: string, typ: string | null, claims: Claims, header: Claims) {
    const input = unsigned('HS256', typ, claims, header)
    return `${input}.${createHmac('sha256', secret).update(input).digest('base64url')}`
  }

  return {
    async make(typ, claims, { signature = 'issuer', header = {} } = {}) {
      switch (signature) {
        case 'issuer':
          return signer.sign(typ, claims, header)
        case 'corrupted':
          return corrupted(await signer.sign(typ, claims, header))
        case 'other_key':
          stranger ??= strangerTo(signer)
          return (await stranger).sign(typ, claims, header)
        case 'none':
          return `${unsigned('none', typ, claims, header)}.`
        case 'public_key_pem':
          return keyedWithPublic(pemOf(publicJwk), typ, claims, header)
        case 'public_key_jwk':
          return keyedWithPublic(JSON.stringify(publicJwk), typ, claims, header)
      }
    },
  }
}

/** A signer with the same `kid` and algorithm, but a fresh key that is published nowhere. */
async function strangerTo({ kid, algorithm }: Signer): Promise<Signer> {
  const keyAlgorithm = keyAlgorithmOf(algorithm)
  const { privateKey } = await generateKeyPair(keyAlgorithm, { extractable: true })
  const signer = createSigner(await exportJWK(privateKey), { kid, algorithm: keyAlgorithm })
  return renamed(signer, algorithm)
}

/** Flips one bit of the signature. Its length and form stay the same. */
function corrupted(token: string): string {
  const [header, claims, signature = ''] = token.split('.')
  const bytes = Buffer.from(signature, 'base64url')
  const middle = bytes.length >> 1
  bytes.writeUInt8(bytes.readUInt8(middle) ^ 1, middle)
  return `${header}.${claims}.${bytes.toString('base64url')}`
}

function pemOf(publicJwk: Readonly<Record<string, unknown>>): string {
  const key = createPublicKey({ key: publicJwk as JsonWebKeyInput['key'], format: 'jwk' })
  return key.export({ type: 'spki', format: 'pem' }).toString()
}
