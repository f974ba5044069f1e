import { type IssuerName, type KeyLife, type SigningAlgorithm, SigningKeyError } from '@curfew/domain'
import { calculateJwkThumbprint, exportJWK, generateKeyPair, type JWK } from 'jose'
import { MODULUS_BITS_MIN } from './algorithms.ts'
import { type PostJson, type RemoteSigner, signRemotely } from './remote-signer.ts'
import { createSealer } from './sealing.ts'
import { createSigner, type Signer, signerOf } from './signer.ts'

/** Where the private part of a key is. */
export type KeySource = 'generated' | 'imported' | 'remote'

/** A signing key before anybody has said when it signs. */
export interface SealedKey {
  /** Its own name at the IdP, or its RFC 7638 thumbprint. */
  readonly kid: string
  readonly issuer: IssuerName
  readonly algorithm: SigningAlgorithm
  readonly publicJwk: Readonly<Record<string, unknown>>
  readonly source: KeySource
  /** A compact JWE under the master key: the private JWK, or of a remote key how its signer is reached. */
  readonly sealedPrivateKey: string
}

/** A signing key as it is stored: the private part only sealed. */
export interface StoredKey extends SealedKey, KeyLife {
  readonly createdAt: Date
}

/** A key of somebody else's, checked. */
interface GivenKey {
  readonly kid: string
  readonly issuer: IssuerName
  readonly algorithm: SigningAlgorithm
  readonly publicJwk: JWK
}

/** Makes keys that can be stored, and opens them again. */
export interface KeyMaker {
  generate(issuer: IssuerName, algorithm: SigningAlgorithm): Promise<SealedKey>
  sealImported(key: GivenKey & { readonly privateJwk: JWK }): Promise<SealedKey>
  sealRemote(key: GivenKey & { readonly remote: RemoteSigner }): Promise<SealedKey>
  /** @throws {SigningKeyError} when no master key of ours opens it, or it was tampered with or belongs to another key. */
  open(key: SealedKey): Promise<Signer>
}

export interface KeyMakerOptions {
  /** 32 bytes. */
  readonly masterKey: Uint8Array
  /** 32 bytes: opens too, while one master key replaces another. Default null. */
  readonly oldMasterKey?: Uint8Array | null
  /** Reaches signers elsewhere. Default: there is no way to any. */
  readonly post?: PostJson
}

const NO_WAY: PostJson = async () => ({
  ok: false,
  detail: 'this process has no way to signers elsewhere',
})

/** @throws {SigningKeyError} for a master key that is not of 32 bytes. */
export function createKeyMaker({ masterKey, oldMasterKey = null, post = NO_WAY }: KeyMakerOptions): KeyMaker {
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
      const what = `signing key ${kid} of ${issuer}`
      const secret: unknown = JSON.parse(await sealer.open(sealedPrivateKey, { kid, iss: issuer }, what))
      if (source !== 'remote') return createSigner(secret as JWK, { kid, algorithm })
      const facts = { issuer, kid, algorithm, publicJwk: publicJwk as JWK, post }
      return signerOf(signRemotely(secret as RemoteSigner, facts), { kid, algorithm })
    },
  }
}
