import { setTimeout } from 'node:timers/promises'
import {
  type IssuerName,
  isPublished,
  KEYRING_REFRESH_MS,
  KEYRING_TRUST_MS,
  keyAlgorithmOf,
  NoSigningKeyError,
  type SigningAlgorithm,
  SigningKeyError,
  signingKey,
  type TokenAlgorithm,
} from '@curfew/domain'
import type { KeyMaker, SealedKey, StoredKey } from './key-maker.ts'
import { renamed, type Signer } from './signer.ts'

/** The store of signing keys. */
export interface KeyStore {
  find(issuer: IssuerName): Promise<readonly StoredKey[]>
  /** Stores `key`, which signs at once, unless the issuer has a key for its algorithm. @returns all keys of the issuer. */
  insertFirst(key: SealedKey, now: Date): Promise<readonly StoredKey[]>
  /** Some keys of any issuer, the youngest first, without keys whose private part is erased. */
  sample(limit: number): Promise<readonly StoredKey[]>
}

export interface PublicKeySet {
  readonly keys: ({ readonly kid: string } & Record<string, unknown>)[]
}

/** The signing keys of every issuer. A key is made when it is first needed. */
export interface Keyring {
  /** The key that signs now. Its tokens name `algorithm` in their header. @throws {SigningKeyError} if no master key opens it. */
  signer(issuer: IssuerName, algorithm: TokenAlgorithm): Promise<Signer>
  /** Makes a key if none exists, so that it is published before it signs. @throws {SigningKeyError} as `signer` does. */
  ensure(issuer: IssuerName, algorithm: TokenAlgorithm): Promise<void>
  /** The JWK Set (RFC 7517) of the keys that are published now. */
  jwks(issuer: IssuerName): Promise<PublicKeySet>
  /**
   * Checks the master keys with a sample of the stored keys. Resolves also if no key exists, or the store is unavailable.
   *
   * @throws {SigningKeyError} if no master key opens any of the sample.
   */
  check(): Promise<void>
}

export interface KeyringOptions {
  readonly store: KeyStore
  readonly maker: KeyMaker
  readonly now: () => Date
  /** The age at which a copy of an issuer's keys is refreshed from the store, in milliseconds. Default 60,000. */
  readonly refreshMs?: number
}

/** The last copy of an issuer's keys from the store. */
interface Copy {
  readonly keys: readonly StoredKey[]
  readonly fetchedMs: number
  /** The time of the last read. A failed read counts too, so that an unavailable store is not flooded. */
  askedMs: number
}

/** The number of keys that `check` tries. */
const SAMPLE = 5
/** A copy that was not used for this many refresh intervals is renewed before its next use. */
const IDLE_TIMES = 2
/** The longest wait for this renewal, in milliseconds. */
const RENEWAL_WAIT_MS = 2_000

/**
 * Creates a keyring that keeps a copy of each issuer's keys. The clock selects the signing key from the copy, so a new key signs
 * on time even while the store is unavailable.
 *
 * The keyring refreshes a copy that is older than `refreshMs` in the background. Attempts go on with the old copy: they neither
 * wait, nor fail while the store is unavailable. There are two exceptions:
 * - After two such intervals without use, the copy is renewed before its next use.
 * - A copy older than `KEYRING_TRUST_MS` is not used, because its key may have left the published key set.
 */
export function createKeyring({
  store,
  maker,
  now,
  refreshMs = KEYRING_REFRESH_MS,
}: KeyringOptions): Keyring {
  const copies = new Map<IssuerName, Copy>()
  const asking = new Map<IssuerName, Promise<Copy>>()
  const making = new Map<string, Promise<Copy>>()
  const opened = new Map<string, Promise<Signer>>()

  function keep(issuer: IssuerName, keys: readonly StoredKey[], askedMs: number): Copy {
    const copy: Copy = { keys, fetchedMs: askedMs, askedMs }
    copies.set(issuer, copy)
    const kids = new Set(keys.map((key) => nameOf(key)))
    for (const name of opened.keys())
      if (name.startsWith(`${issuer} `) && !kids.has(name)) opened.delete(name)
    return copy
  }

  /** Reads the store. Concurrent callers share one read. */
  function ask(issuer: IssuerName): Promise<Copy> {
    const askedMs = now().getTime()
    const answer =
      asking.get(issuer) ??
      store
        .find(issuer)
        .then((keys) => keep(issuer, keys, askedMs))
        .finally(() => asking.delete(issuer))
    asking.set(issuer, answer)
    return answer
  }

  /** Reads the store as `ask` does, but never shares a read that started earlier. */
  async function askAgain(issuer: IssuerName): Promise<Copy> {
    await asking.get(issuer)?.catch(() => undefined)
    return ask(issuer)
  }

  function copyOf(issuer: IssuerName): Copy | Promise<Copy> {
    const copy = copies.get(issuer)
    const nowMs = now().getTime()
    if (copy === undefined || nowMs - copy.fetchedMs >= KEYRING_TRUST_MS) return ask(issuer)
    const unaskedMs = nowMs - copy.askedMs
    if (unaskedMs >= refreshMs) {
      copy.askedMs = nowMs
      // An idle copy may be badly outdated: one of its keys may have been withdrawn.
      if (unaskedMs >= refreshMs * IDLE_TIMES) return renewed(copy, issuer)
      // If the store is unavailable, the copy stays in use.
      ask(issuer).catch(() => undefined)
    }
    return copy
  }

  /** The keys in the store or, if the store does not answer in time, the copy. */
  async function renewed(copy: Copy, issuer: IssuerName): Promise<Copy> {
    await Promise.race([
      ask(issuer).catch(() => undefined),
      setTimeout(RENEWAL_WAIT_MS, undefined, { ref: false }),
    ])
    return copies.get(issuer) ?? copy
  }

  /** Makes the first key of an algorithm. A failure is not kept, so the next call tries again. */
  async function make({ keys }: Copy, issuer: IssuerName, algorithm: SigningAlgorithm): Promise<Copy> {
    const provided = keys.filter(({ source, retiredAt }) => source !== 'generated' && retiredAt === null)
    if (provided.length > 0) {
      const algorithms = [...new Set(provided.map((key) => key.algorithm))].join(', ')
      throw new NoSigningKeyError(
        `${issuer} has keys of its own (${algorithms}) and none for ${algorithm}; import or generate one for ${algorithm}`,
      )
    }
    const name = `${issuer} ${algorithm}`
    const answer =
      making.get(name) ??
      maker
        .generate(issuer, algorithm)
        .then(async (key) => keep(issuer, await store.insertFirst(key, now()), now().getTime()))
        .finally(() => making.delete(name))
    making.set(name, answer)
    return answer
  }

  function open(key: StoredKey): Promise<Signer> {
    const name = nameOf(key)
    const known = opened.get(name)
    if (known !== undefined) return known
    const signer = maker.open(key)
    opened.set(name, signer)
    // Try again next time: the key may have been sealed again by then.
    signer.catch(() => opened.delete(name))
    return signer
  }

  async function signer(issuer: IssuerName, algorithm: SigningAlgorithm): Promise<Signer> {
    const neededMs = now().getTime()
    const known = await copyOf(issuer)
    const key = current(known, algorithm)
    if (key !== null) return open(key)
    // Another process may have stored a key since the last read.
    const copy = known.fetchedMs >= neededMs ? known : await askAgain(issuer)
    const first = current(copy, algorithm) ?? current(await make(copy, issuer, algorithm), algorithm)
    if (first !== null) return open(first)
    throw new SigningKeyError(`${issuer} has no ${algorithm} key that may sign now; generate or import one`)
  }

  function current({ keys }: Copy, algorithm: SigningAlgorithm): StoredKey | null {
    return signingKey(
      keys.filter((key) => key.algorithm === algorithm),
      now(),
    )
  }

  /** A signer whose header has the name of the algorithm that the client registered. */
  async function named(issuer: IssuerName, algorithm: TokenAlgorithm): Promise<Signer> {
    const found = await signer(issuer, keyAlgorithmOf(algorithm))
    return found.algorithm === algorithm ? found : renamed(found, algorithm)
  }

  return {
    signer: named,
    ensure: async (issuer, algorithm) => void (await named(issuer, algorithm)),
    async jwks(issuer) {
      return { keys: publishedKeys(await store.find(issuer), now()).map(publicView) }
    },
    async check() {
      let keys: readonly StoredKey[]
      try {
        keys = await store.sample(SAMPLE)
      } catch {
        // Another health check reports an unavailable store.
        return
      }
      let last: unknown = null
      for (const key of keys) {
        try {
          await maker.open(key)
          return
        } catch (error) {
          last = error
        }
      }
      if (last !== null) throw last
    },
  }
}

/** Selects the keys of one issuer that are in its published key set at `now`. */
export function publishedKeys<Key extends StoredKey>(keys: readonly Key[], now: Date): readonly Key[] {
  return keys.filter((key) =>
    isPublished(
      key,
      keys.filter(({ algorithm }) => algorithm === key.algorithm),
      now,
    ),
  )
}

function publicView({ kid, algorithm, publicJwk }: StoredKey): PublicKeySet['keys'][number] {
  // A key for EdDSA verifies tokens that say EdDSA or Ed25519. Libraries compare `alg` with the header, so it is left out: the
  // curve names the algorithm (RFC 9864).
  return { ...publicJwk, kid, ...(algorithm !== 'EdDSA' && { alg: algorithm }), use: 'sig' }
}

/** The name of a key in the cache of opened keys. */
function nameOf({ issuer, kid }: StoredKey): string {
  return `${issuer} ${kid}`
}
