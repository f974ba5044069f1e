import { type IssuerName, type KeyLife, type SigningAlgorithm, SigningKeyError } from '@curfew/domain'
import { calculateJwkThumbprint, exportJWK, generateKeyPair, type JWK } from 'jose'
import { MODULUS_BITS_MIN } from './algorithms.ts'
import { type PostJson, type RemoteSigner, signRemotely } from './remote-signer.ts'
import { createSealer } from './sealing.ts'
import { createSigner, type Signer, signerOf } from './signer.ts'

/** The origin of a key's private part: made by Curfew, imported, or held by a remote signer. */
export type KeySource = 'generated' | 'imported' | 'remote'

/** A signing key without the times of its life. */
export interface SealedKey {
  /** The `kid` that the IdP uses, or the RFC 7638 thumbprint. */
  readonly kid: string
  readonly issuer: IssuerName
  readonly algorithm: SigningAlgorithm
  readonly publicJwk: Readonly<Record<string, unknown>>
  readonly source: KeySource
  /** A compact JWE under the master key. It contains the private JWK or, for a remote key, the `RemoteSigner`. */
  readonly sealedPrivateKey: string
}

/** A signing key as it is stored, with its private part sealed. */
export interface StoredKey extends SealedKey, KeyLife {
  readonly createdAt: Date
}

/** A checked key that Curfew did not make. */
interface GivenKey {
  readonly kid: string
  readonly issuer: IssuerName
  readonly algorithm: SigningAlgorithm
  readonly publicJwk: JWK
}

/** Makes sealed keys for storage, and opens them. */
export interface KeyMaker {
  generate(issuer: IssuerName, algorithm: SigningAlgorithm): Promise<SealedKey>
  sealImported(key: GivenKey & { readonly privateJwk: JWK }): Promise<SealedKey>
  sealRemote(key: GivenKey & { readonly remote: RemoteSigner }): Promise<SealedKey>
  /** @throws {SigningKeyError} if no master key opens it, it was changed, or it belongs to another key. */
  open(key: SealedKey): Promise<Signer>
}

export interface KeyMakerOptions {
  /** 32 bytes. */
  readonly masterKey: Uint8Array
  /** 32 bytes. It opens keys, but seals none, during a rotation of the master key. Default null. */
  readonly oldMasterKey?: Uint8Array | null
  /** Sends requests to remote signers. By default every remote signature fails. */
  readonly post?: PostJson
}

const NO_REMOTE: PostJson = async () => ({
  ok: false,
  detail: 'this process has no client for remote signers',
})

/** @throws {SigningKeyError} if a master key is not 32 bytes long. */
export function createKeyMaker({
  masterKey,
  oldMasterKey = null,
  post = NO_REMOTE,
}: KeyMakerOptions): KeyMaker {
  const sealer = createSealer({ current: masterKey, old: oldMasterKey }, SigningKeyError, 'another key')
  const seal = async (
    { kid, issuer, algorithm, publicJwk }: GivenKey,
    source: KeySource,
    secret: object,
  ): Promise<SealedKey> => {
    const sealedPrivateKey = await sealer.seal(JSON.stringify(secret), { kid, iss: issuer })
    return { kid, issuer, algorithm, publicJwk: { ...publicJwk }, source, sealedPrivateKey }
  }
  return {
    async generate(issuer, algorithm) {
      const pair = await generateKeyPair(algorithm, { extractable: true, modulusLength: MODULUS_BITS_MIN })
      const publicJwk = await exportJWK(pair.publicKey)
      const kid = await calculateJwkThumbprint(publicJwk)
      return seal({ kid, issuer, algorithm, publicJwk }, 'generated', await exportJWK(pair.privateKey))
    },
    sealImported: ({ privateJwk, ...key }) => seal(key, 'imported', privateJwk),
    sealRemote: ({ remote, ...key }) => seal(key, 'remote', remote),
    async open({ kid, issuer, algorithm, publicJwk, source, sealedPrivateKey }) {
      const name = `signing key ${kid} of ${issuer}`
      const secret: unknown = JSON.parse(await sealer.open(sealedPrivateKey, { kid, iss: issuer }, name))
      if (source !== 'remote') return createSigner(secret as JWK, { kid, algorithm })
      const facts = { issuer, kid, algorithm, publicJwk: publicJwk as JWK, post }
      return signerOf(signRemotely(secret as RemoteSigner, facts), { kid, algorithm })
    },
  }
}
