import type { IssuerName, SigningAlgorithm } from '@curfew/domain'
import { calculateJwkThumbprint, exportJWK, generateKeyPair, type JWK } from 'jose'
import { createSealer } from './sealing.ts'
import { createSigner, type Signer } from './signer.ts'

/** A signing key as it is stored: the private part only sealed. */
export interface StoredKey {
  /** Its RFC 7638 thumbprint. */
  readonly kid: string
  readonly issuer: IssuerName
  readonly algorithm: SigningAlgorithm
  readonly publicJwk: Readonly<Record<string, unknown>>
  /** A compact JWE under the master key. */
  readonly sealedPrivateKey: string
  readonly createdAt: Date
}

/** Where keys are stored. */
export interface KeyStore {
  find(issuer: IssuerName): Promise<readonly StoredKey[]>
  /** Stores `key` unless the issuer has one for its algorithm. @returns the one that is stored. */
  insertIfAbsent(key: StoredKey): Promise<StoredKey>
}

export interface PublicKeySet {
  readonly keys: ({ readonly kid: string } & Record<string, unknown>)[]
}

/** The signing keys of every issuer, made when they are first needed. */
export interface Keyring {
  /** @throws {SigningKeyError} when the key cannot be opened with our master key. */
  signer(issuer: IssuerName, algorithm: SigningAlgorithm): Promise<Signer>
  /** Makes sure that there is a key, so that it can be published before it signs. @throws {SigningKeyError} as `signer`. */
  ensure(issuer: IssuerName, algorithm: SigningAlgorithm): Promise<void>
  /** The public halves (RFC 7517). */
  jwks(issuer: IssuerName): Promise<PublicKeySet>
}

export interface KeyringOptions {
  readonly store: KeyStore
  /** 32 bytes. */
  readonly masterKey: Uint8Array
  readonly now: () => Date
}

const MODULUS_BITS = 2_048

/**
 * A signer is opened once and kept: what a key signs with does not change. Concurrent first needs in this process make
 * one key; of several processes the store decides whose is kept, and all sign with that one.
 */
export function createKeyring({ store, masterKey, now }: KeyringOptions): Keyring {
  const sealer = createSealer(masterKey)
  const signers = new Map<string, Promise<Signer>>()

  async function generate(issuer: IssuerName, algorithm: SigningAlgorithm): Promise<StoredKey> {
    const pair = await generateKeyPair(algorithm, { extractable: true, modulusLength: MODULUS_BITS })
    const publicJwk = await exportJWK(pair.publicKey)
    const kid = await calculateJwkThumbprint(publicJwk)
    const sealedPrivateKey = await sealer.seal(await exportJWK(pair.privateKey), { kid, issuer })
    return { kid, issuer, algorithm, publicJwk: { ...publicJwk }, sealedPrivateKey, createdAt: now() }
  }

  async function open(issuer: IssuerName, algorithm: SigningAlgorithm): Promise<Signer> {
    const stored = (await store.find(issuer)).find((key) => key.algorithm === algorithm)
    const key = stored ?? (await store.insertIfAbsent(await generate(issuer, algorithm)))
    const privateJwk: JWK = await sealer.open(key.sealedPrivateKey, { kid: key.kid, issuer })
    return createSigner(privateJwk, { kid: key.kid, algorithm })
  }

  function signer(issuer: IssuerName, algorithm: SigningAlgorithm): Promise<Signer> {
    const name = `${issuer} ${algorithm}`
    const known = signers.get(name)
    if (known !== undefined) return known
    const opening = open(issuer, algorithm)
    signers.set(name, opening)
    // A failure is not kept: the store may be back at the next need.
    opening.catch(() => signers.delete(name))
    return opening
  }

  return {
    signer,
    ensure: async (issuer, algorithm) => void (await signer(issuer, algorithm)),
    async jwks(issuer) {
      const keys = await store.find(issuer)
      return {
        keys: keys.map(({ kid, algorithm, publicJwk }) => ({
          ...publicJwk,
          kid,
          alg: algorithm,
          use: 'sig',
        })),
      }
    },
  }
}
