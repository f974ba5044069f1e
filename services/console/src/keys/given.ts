import type { SigningKeyInput } from '@curfew/contract'
import {
  issuerNetworkAccess,
  keyAlgorithmOf,
  type NetworkAccess,
  type SigningAlgorithm,
} from '@curfew/domain'
import type { IssuerRecord, NewSigningKey } from '@curfew/ledger'
import { type Fault, ProblemError } from '@curfew/runtime'
import { checkSigningJwk, type JwkFault, type KeyMaker } from '@curfew/tokens'
import { networksOf } from '../registry/networks.ts'
import type { KeySets } from './key-sets.ts'
import { chooseKid } from './kid.ts'

export interface GivenKeyDeps {
  readonly issuer: IssuerRecord
  readonly keyMaker: KeyMaker
  /** The fault of a signer's URL, in words; null if there is none. */
  targetFault(uri: string, access: NetworkAccess): string | null
  /** Fetches the key sets of the IdP. */
  keySets(): Promise<KeySets>
}

/** The key of a request, with the reason for its kid; null if the request gave the kid, or the key is new. */
export interface GivenKey {
  readonly key: NewSigningKey
  readonly kidReason: string | null
}

/** The claims that a remote signer signs once, as a test. They have no audience and are expired. */
const PROBE = { iss: '', aud: '', iat: 0, exp: 0, jti: 'curfew-probe', txn: '' }

/** Whether a request asks for a generated key. */
export function isGenerated({ jwk, signer, public_jwk }: SigningKeyInput): boolean {
  return jwk === undefined && signer === undefined && public_jwk === undefined
}

/**
 * Generates or imports the key of a request, or reads a remote key, and seals it.
 *
 * @throws a 400 problem that never quotes a key.
 */
export async function givenKey(input: SigningKeyInput, deps: GivenKeyDeps): Promise<GivenKey> {
  const { jwk, signer, public_jwk, sign_from } = input
  if (jwk !== undefined && signer !== undefined)
    throw invalid([{ pointer: '/signer', detail: 'must be absent if there is a jwk' }])
  if ((signer === undefined) !== (public_jwk === undefined)) {
    const missing = signer === undefined ? 'signer' : 'public_jwk'
    throw invalid([
      { pointer: `/${missing}`, detail: 'is required: a remote key needs signer and public_jwk' },
    ])
  }
  if (sign_from !== undefined && input.lead_s !== undefined)
    throw invalid([{ pointer: '/lead_s', detail: 'must be absent if there is a sign_from' }])
  if (jwk !== undefined) return imported(jwk, input, deps)
  if (signer !== undefined && public_jwk !== undefined) return remote({ ...input, signer, public_jwk }, deps)
  if (sign_from !== undefined)
    throw invalid([
      {
        pointer: '/sign_from',
        detail: 'is only allowed with jwk or signer, for keys that the IdP publishes already',
      },
    ])
  if (input.alg === undefined) throw invalid([{ pointer: '/alg', detail: 'is required to generate a key' }])
  return { key: await deps.keyMaker.generate(deps.issuer.name, keyAlgorithmOf(input.alg)), kidReason: null }
}

async function imported(
  jwk: Readonly<Record<string, unknown>>,
  { alg }: SigningKeyInput,
  { issuer, keyMaker, keySets }: GivenKeyDeps,
): Promise<GivenKey> {
  const checked = await checkSigningJwk(jwk, { algorithm: alg, part: 'private' })
  if (!checked.ok) throw invalid(checked.faults.map((fault) => faultAt('/jwk', fault)))
  const { algorithm, publicJwk, privateJwk } = checked
  if (privateJwk === null) throw new Error('a private JWK was checked as a public one')
  const { kid, reason } = await kidOf(jwk, checked, { keySets, pointer: '/jwk' })
  const key = await keyMaker.sealImported({ kid, issuer: issuer.name, algorithm, publicJwk, privateJwk })
  return { key, kidReason: reason }
}

/** The kid of a JWK, or the one that {@link chooseKid} finds. @throws a 400 problem if the IdP has the key for another algorithm. */
async function kidOf(
  { kid: given }: Readonly<Record<string, unknown>>,
  { kid, algorithm }: { readonly kid: string; readonly algorithm: SigningAlgorithm },
  { keySets, pointer }: Pick<GivenKeyDeps, 'keySets'> & { readonly pointer: string },
): Promise<{ readonly kid: string; readonly reason: string | null }> {
  if (typeof given === 'string') return { kid, reason: null }
  const chosen = await chooseKid({ thumbprint: kid, algorithm }, await keySets())
  if (!('detail' in chosen)) return chosen
  throw invalid([{ pointer: `${pointer}/alg`, detail: chosen.detail }])
}

async function remote(
  {
    alg,
    signer: { url, credential, flavour = 'curfew' },
    public_jwk,
  }: SigningKeyInput & Required<Pick<SigningKeyInput, 'signer' | 'public_jwk'>>,
  { issuer, keyMaker, targetFault, keySets }: GivenKeyDeps,
): Promise<GivenKey> {
  const checked = await checkSigningJwk(public_jwk, { algorithm: alg, part: 'public' })
  if (!checked.ok) throw invalid(checked.faults.map((fault) => faultAt('/public_jwk', fault)))
  const urlFault = targetFault(url, issuerNetworkAccess(networksOf(issuer)))
  if (urlFault !== null) throw invalid([{ pointer: '/signer/url', detail: urlFault }])
  const { algorithm, publicJwk } = checked
  const { kid, reason } = await kidOf(public_jwk, checked, { keySets, pointer: '/public_jwk' })
  const key = await keyMaker.sealRemote({
    kid,
    issuer: issuer.name,
    algorithm,
    publicJwk,
    remote: { flavour, url, credential },
  })
  try {
    await (await keyMaker.open(key)).sign('logout+jwt', { ...PROBE, events: {} as never })
  } catch (error) {
    const detail = error instanceof Error ? error.message : String(error)
    throw invalid([{ pointer: '/signer', detail: `did not sign a test token: ${detail}` }])
  }
  return { key, kidReason: reason }
}

function faultAt(pointer: string, { member, detail }: JwkFault): Fault {
  return { pointer: member === '' ? pointer : `${pointer}/${member}`, detail }
}

function invalid(errors: readonly Fault[]): ProblemError {
  return new ProblemError({
    status: 400,
    title: 'Invalid key',
    detail: 'Nothing was changed. Correct the faults in errors and send the request again.',
    errors,
  })
}
