import type { IssuerName, SigningAlgorithm } from '@curfew/domain'
import { calculateJwkThumbprint, exportJWK, generateKeyPair } from 'jose'
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
  /** How old a signer may be before the store is asked again for its key, in milliseconds. Default 60,000. */
  readonly refreshMs?: number
}

/** A signer that is open, and when its key was last seen in the store. */
interface Opened {
  readonly signer: Signer
  /** By the given clock, in milliseconds; what failed counts as seen, so that a store that is away is not pressed. */
  seenAt: number
}

const MODULUS_BITS = 2_048

/**
 * A signer is opened once and kept. Concurrent first needs in this process make one key; of several processes the store
 * decides whose is kept, and all sign with that one.
 *
 * Whether the store has another key by now is asked in the background: after `refreshMs` the next need still signs with
 * the key it knows, and no attempt waits, nor fails while the store is away. So a key that was replaced signs for up to
 * `refreshMs` and one need longer, and must stay published for as long.
 */
export function createKeyring({ store, masterKey, now, refreshMs = 60_000 }: KeyringOptions): Keyring {
  const sealer = createSealer(masterKey)
  const opened = new Map<string, Opened>()
  const opening = new Map<string, Promise<Signer>>()

  async function generate(issuer: IssuerName, algorithm: SigningAlgorithm): Promise<StoredKey> {
    const pair = await generateKeyPair(algorithm, { extractable: true, modulusLength: MODULUS_BITS })
    const publicJwk = await exportJWK(pair.publicKey)
    const kid = await calculateJwkThumbprint(publicJwk)
    const sealedPrivateKey = await sealer.seal(await exportJWK(pair.privateKey), { kid, issuer })
    return { kid, issuer, algorithm, publicJwk: { ...publicJwk }, sealedPrivateKey, createdAt: now() }
  }

  async function find(issuer: IssuerName, algorithm: SigningAlgorithm): Promise<StoredKey | undefined> {
    return (await store.find(issuer)).find((key) => key.algorithm === algorithm)
  }

  async function open({ kid, issuer, algorithm, sealedPrivateKey }: StoredKey): Promise<Signer> {
    return createSigner(await sealer.open(sealedPrivateKey, { kid, issuer }), { kid, algorithm })
  }

  /** The first need. A failure is not kept: the store may be back at the next. */
  async function openFirst(name: string, issuer: IssuerName, algorithm: SigningAlgorithm): Promise<Signer> {
    try {
      const known = await find(issuer, algorithm)
      const signer = await open(known ?? (await store.insertIfAbsent(await generate(issuer, algorithm))))
      opened.set(name, { signer, seenAt: now().getTime() })
      return signer
    } finally {
      opening.delete(name)
    }
  }

  /** Never rejects: what is known goes on signing. */
  async function refresh(name: string, { signer }: Opened, issuer: IssuerName): Promise<void> {
    try {
      const key = await find(issuer, signer.algorithm)
      // The key is gone, as with an issuer that was removed: whether there shall be another, the next need says.
      if (key === undefined) opened.delete(name)
      else if (key.kid !== signer.kid) opened.set(name, { signer: await open(key), seenAt: now().getTime() })
    } catch {
      // The store is away, or the new key is none that we can open: the one we have is still good.
      return
    }
  }

  async function signer(issuer: IssuerName, algorithm: SigningAlgorithm): Promise<Signer> {
    const name = `${issuer} ${algorithm}`
    const known = opened.get(name)
    if (known === undefined) {
      const first = opening.get(name) ?? openFirst(name, issuer, algorithm)
      opening.set(name, first)
      return first
    }
    const nowMs = now().getTime()
    if (nowMs - known.seenAt >= refreshMs) {
      known.seenAt = nowMs
      void refresh(name, known, issuer)
    }
    return known.signer
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
