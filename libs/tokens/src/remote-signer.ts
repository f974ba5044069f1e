import { type IssuerName, SignerUnavailableError, type SigningAlgorithm } from '@curfew/domain'
import type { JWK } from 'jose'
import { type SignInput, verifyWith } from './algorithms.ts'

/** Where a private key is that we do not have, and how it is asked to sign. */
export interface RemoteSigner {
  /** `curfew`: the small protocol of our own, which a KMS proxy can speak. `vault`: the transit engine of HashiCorp Vault or OpenBao. */
  readonly flavour: 'curfew' | 'vault'
  /** Absolute. For Vault: with the path `/v1/transit/sign/{name}`. */
  readonly url: string
  /** `curfew`: a bearer token. `vault`: a Vault token. */
  readonly credential: string
}

/** POSTs JSON to a signer, and reads the JSON of a 200. Never rejects. */
export type PostJson = (request: {
  /** The issuer that the signer signs for: it may live where its issuer may. */
  readonly issuer: IssuerName
  readonly uri: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}) => Promise<
  { readonly ok: true; readonly value: unknown } | { readonly ok: false; readonly detail: string }
>

/**
 * Signs elsewhere. What comes back is verified with the public key before anything is made of it: a signer that has
 * another key, or answers in another encoding, must not be found out by relying parties.
 *
 * @throws {SignerUnavailableError} from the function that it returns, in words without the credential.
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
    if (!answer.ok) throw new SignerUnavailableError(`the signer of ${kid}: ${answer.detail}`)
    const signature = signatureOf(remote, answer.value)
    if (signature === null)
      throw new SignerUnavailableError(`the signer of ${kid} answered without a signature`)
    if (!isGood(good, input, signature)) {
      throw new SignerUnavailableError(
        `the signer of ${kid} answered with a signature that its public key does not verify as ${algorithm}`,
      )
    }
    return signature
  }
}

/** What Vault calls a hash. */
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
      // As JWS has it: R and S side by side, in base64url.
      marshaling_algorithm: 'jws',
      ...(algorithm !== 'EdDSA' && { hash_algorithm: VAULT_HASHES[algorithm.slice(2)] }),
      ...(family === 'RS' && { signature_algorithm: 'pkcs1v15' }),
      // Left to itself Vault takes the longest salt, where JWS has that of the hash (RFC 7518 3.5).
      ...(family === 'PS' && { signature_algorithm: 'pss', salt_length: 'hash' }),
    }),
  }
}

function signatureOf({ flavour }: RemoteSigner, answer: unknown): Buffer | null {
  const { signature, data } = Object(answer) as { signature?: unknown; data?: unknown }
  const text = flavour === 'curfew' ? signature : Object(data).signature
  if (typeof text !== 'string') return null
  // Either alphabet of base64 is read.
  const encoded = flavour === 'curfew' ? text : (/^vault:v\d+:([\w+/=-]+)$/.exec(text)?.[1] ?? '')
  const bytes = Buffer.from(encoded, 'base64')
  return bytes.length === 0 ? null : bytes
}

function isGood(good: ReturnType<typeof verifyWith>, input: Buffer, signature: Buffer): boolean {
  try {
    return good(input, signature)
  } catch {
    // Of another length than any signature of this algorithm.
    return false
  }
}
