import { type IssuerName, SignerUnavailableError, type SigningAlgorithm } from '@curfew/domain'
import type { JWK } from 'jose'
import { type SignInput, verifyWith } from './algorithms.ts'

/** The address of a service that holds a private key and signs with it. */
export interface RemoteSigner {
  /** `curfew`: Curfew's own small protocol, for KMS proxies. `vault`: the transit engine of HashiCorp Vault or OpenBao. */
  readonly flavour: 'curfew' | 'vault'
  /** An absolute URL. For Vault, its path is `/v1/transit/sign/{name}`. */
  readonly url: string
  /** `curfew`: a bearer token. `vault`: a Vault token. */
  readonly credential: string
}

/** POSTs JSON to a remote signer, and reads the JSON of a 200. Never rejects. */
export type PostJson = (request: {
  /** The issuer that the signer signs for. The network rules of the issuer apply to the signer. */
  readonly issuer: IssuerName
  readonly uri: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}) => Promise<
  { readonly ok: true; readonly value: unknown } | { readonly ok: false; readonly detail: string }
>

/**
 * Creates a function that signs with a remote key. It verifies each signature with the public key before use, so a signer with a
 * wrong key or encoding fails here and not at the relying parties.
 *
 * @returns a function that rejects with a `SignerUnavailableError`, whose message does not contain the credential.
 */
export function signRemotely(
  remote: RemoteSigner,
  {
    issuer,
    kid,
    algorithm,
    publicJwk,
    post,
  }: { issuer: IssuerName; kid: string; algorithm: SigningAlgorithm; publicJwk: JWK; post: PostJson },
): SignInput {
  const good = verifyWith(publicJwk, algorithm)
  return async (input) => {
    const answer = await post({ issuer, ...requestTo(remote, { kid, algorithm, input }) })
    if (!answer.ok) throw new SignerUnavailableError(`the remote signer of ${kid} failed: ${answer.detail}`)
    const signature = signatureOf(remote, answer.value)
    if (signature === null)
      throw new SignerUnavailableError(`the remote signer of ${kid} answered without a signature`)
    if (!isGood(good, input, signature)) {
      throw new SignerUnavailableError(
        `the remote signer of ${kid} answered with a signature that is not valid for ${algorithm} and the key's public part`,
      )
    }
    return signature
  }
}

/** Vault's names of hashes, by the digits of the algorithm. */
const VAULT_HASHES: Readonly<Record<string, string>> = {
  '256': 'sha2-256',
  '384': 'sha2-384',
  '512': 'sha2-512',
}

function requestTo(
  { flavour, url, credential }: RemoteSigner,
  { kid, algorithm, input }: { kid: string; algorithm: SigningAlgorithm; input: Buffer },
): Omit<Parameters<PostJson>[0], 'issuer'> {
  if (flavour === 'curfew') {
    return {
      uri: url,
      headers: { authorization: `Bearer ${credential}` },
      body: JSON.stringify({ kid, alg: algorithm, input: input.toString('base64url') }),
    }
  }
  const family = algorithm.slice(0, 2)
  return {
    uri: url,
    headers: { 'x-vault-token': credential },
    body: JSON.stringify({
      input: input.toString('base64'),
      // The encoding of JWS: R and S concatenated, in base64url.
      marshaling_algorithm: 'jws',
      ...(algorithm !== 'EdDSA' && { hash_algorithm: VAULT_HASHES[algorithm.slice(2)] }),
      ...(family === 'RS' && { signature_algorithm: 'pkcs1v15' }),
      // Vault's default is the longest salt. JWS requires a salt as long as the hash (RFC 7518 3.5).
      ...(family === 'PS' && { signature_algorithm: 'pss', salt_length: 'hash' }),
    }),
  }
}

function signatureOf({ flavour }: RemoteSigner, answer: unknown): Buffer | null {
  const { signature, data } = Object(answer) as { signature?: unknown; data?: unknown }
  const text = flavour === 'curfew' ? signature : Object(data).signature
  if (typeof text !== 'string') return null
  // Buffer decodes both base64 and base64url.
  const encoded = flavour === 'curfew' ? text : (/^vault:v\d+:([\w+/=-]+)$/.exec(text)?.[1] ?? '')
  const bytes = Buffer.from(encoded, 'base64')
  return bytes.length === 0 ? null : bytes
}

function isGood(good: ReturnType<typeof verifyWith>, input: Buffer, signature: Buffer): boolean {
  try {
    return good(input, signature)
  } catch {
    // node:crypto throws if the length fits no signature of this algorithm.
    return false
  }
}
