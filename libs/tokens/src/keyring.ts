import { setTimeout } from 'node:timers/promises'
import {
  type IssuerName,
  isPublished,
  KEYRING_REFRESH_MS,
  KEYRING_TRUST_MS,
  NoSigningKeyError,
  type SigningAlgorithm,
  SigningKeyError,
  signingKey,
} from '@curfew/domain'
import type { KeyMaker, SealedKey, StoredKey } from './key-maker.ts'
import type { Signer } from './signer.ts'

/** Where keys are stored. */
export interface KeyStore {
  find(issuer: IssuerName): Promise<readonly StoredKey[]>
  /** Stores `key` as one that signs at once, unless the issuer has one for its algorithm. @returns all that the issuer has. */
  insertFirst(key: SealedKey, now: Date): Promise<readonly StoredKey[]>
  /** Some keys of any issuer, the youngest first, none whose private part is erased. */
  sample(limit: number): Promise<readonly StoredKey[]>
}

export interface PublicKeySet {
  readonly keys: ({ readonly kid: string } & Record<string, unknown>)[]
}

/** The signing keys of every issuer, made when they are first needed. */
export interface Keyring {
  /** The one that signs now. @throws {SigningKeyError} when the key cannot be opened with our master key. */
  signer(issuer: IssuerName, algorithm: SigningAlgorithm): Promise<Signer>
  /** Makes sure that there is a key, so that it can be published before it signs. @throws {SigningKeyError} as `signer`. */
  ensure(issuer: IssuerName, algorithm: SigningAlgorithm): Promise<void>
  /** The public halves (RFC 7517) of all that are published now. */
  jwks(issuer: IssuerName): Promise<PublicKeySet>
  /** Resolves unless our master key opens none of the keys that there are. @throws {SigningKeyError} */
  check(): Promise<void>
}

export interface KeyringOptions {
  readonly store: KeyStore
  readonly maker: KeyMaker
  readonly now: () => Date
  /** How old a copy of an issuer's keys may be before the store is asked again, in milliseconds. Default 60,000. */
  readonly refreshMs?: number
}

/** An issuer's keys as the store last gave them. */
interface Copy {
  readonly keys: readonly StoredKey[]
  readonly fetchedMs: number
  /** What failed counts as asked, so that a store that is away is not pressed. */
  askedMs: number
}

const SAMPLE = 5
/** A copy that nobody has needed for so many times as long as it is fresh is renewed before it is used. */
const IDLE_TIMES = 2
/** How long that is waited for, in milliseconds. */
const RENEWAL_WAIT_MS = 2_000

/**
 * Keeps a copy of each issuer's keys; which of them signs, the clock says, not the moment of the copy: a key whose turn
 * comes is taken up on time, also while the store is away.
 *
 * Whether there are other keys by now is asked in the background: after `refreshMs` the next need still signs by the copy,
 * and no attempt waits, nor fails while the store is away. Only after twice as long without any need it is asked first, and
 * only a copy so old that its key may have left the key set (`KEYRING_TRUST_MS`) is not signed by any more.
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

  /** Asks the store; those who ask at the same time share the answer. */
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

  /** As `ask`, but not what was asked before. */
  async function askAnew(issuer: IssuerName): Promise<Copy> {
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
      // Nobody has needed it for long: what it says may be long over, as after a key was withdrawn.
      if (unaskedMs >= refreshMs * IDLE_TIMES) return renewed(copy, issuer)
      // The store is away: the copy goes on to serve.
      ask(issuer).catch(() => undefined)
    }
    return copy
  }

  /** What the store has now; or, where it is away, the copy. */
  async function renewed(copy: Copy, issuer: IssuerName): Promise<Copy> {
    await Promise.race([
      ask(issuer).catch(() => undefined),
      setTimeout(RENEWAL_WAIT_MS, undefined, { ref: false }),
    ])
    return copies.get(issuer) ?? copy
  }

  /** The first need of an algorithm. A failure is not kept: the store may be back at the next. */
  async function make({ keys }: Copy, issuer: IssuerName, algorithm: SigningAlgorithm): Promise<Copy> {
    const theirs = keys.filter(({ source, retiredAt }) => source !== 'generated' && retiredAt === null)
    if (theirs.length > 0) {
      const has = [...new Set(theirs.map((key) => key.algorithm))].join(', ')
      throw new NoSigningKeyError(
        `${issuer} signs with keys of its own (${has}); import or generate one for ${algorithm} first`,
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
    // What does not open now may when its key was sealed anew.
    signer.catch(() => opened.delete(name))
    return signer
  }

  async function signer(issuer: IssuerName, algorithm: SigningAlgorithm): Promise<Signer> {
    const neededMs = now().getTime()
    const known = await copyOf(issuer)
    const key = current(known, algorithm)
    if (key !== null) return open(key)
    // Another process may have stored one since.
    const copy = known.fetchedMs >= neededMs ? known : await askAnew(issuer)
    const first = current(copy, algorithm) ?? current(await make(copy, issuer, algorithm), algorithm)
    if (first !== null) return open(first)
    throw new SigningKeyError(`${issuer} has no ${algorithm} key that signs now`)
  }

  function current({ keys }: Copy, algorithm: SigningAlgorithm): StoredKey | null {
    return signingKey(
      keys.filter((key) => key.algorithm === algorithm),
      now(),
    )
  }

  return {
    signer,
    ensure: async (issuer, algorithm) => void (await signer(issuer, algorithm)),
    async jwks(issuer) {
      return { keys: publishedKeys(await store.find(issuer), now()).map(publicView) }
    },
    async check() {
      let keys: readonly StoredKey[]
      try {
        keys = await store.sample(SAMPLE)
      } catch {
        // That the store is away is another's to say.
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

/** Those of an issuer's keys that are in its key set at `now`. */
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
  return { ...publicJwk, kid, alg: algorithm, use: 'sig' }
}

/** A key that was sealed anew is opened anew. */
function nameOf({ issuer, kid }: StoredKey): string {
  return `${issuer} ${kid}`
}
