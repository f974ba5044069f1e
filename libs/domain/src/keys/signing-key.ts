// The life of a signing key. A key set is cached: by the IdP that merges ours into its own, by RPs, and by our own workers.
// So a key is published a good while before it signs, and a good while after. Which of an issuer's keys for one algorithm
// signs is a question of the clock alone: everybody who knows the same keys answers it alike, and exactly one does.

/** What is fixed of a key's life. Everything else follows from these and from the keys after it. */
export interface KeyLife {
  readonly kid: string
  /** In the key set from then on: when it was made known to us. Never after `signsFrom`. */
  readonly publishedAt: Date
  readonly signsFrom: Date
  /** It signs no more, and never takes over, from then on; null: it ends when another takes over. */
  readonly retiredAt: Date | null
  /** Taken out of the key set at once, whatever that costs: its private part is in other hands. */
  readonly withdrawnAt: Date | null
}

/**
 * `next`: published, does not sign yet. `current`: signs. `previous`: published still, for what it signed.
 * `retired`: in the key set no more.
 */
export type KeyState = 'next' | 'current' | 'previous' | 'retired'

/** When a key's life turns. */
export interface KeyTimes {
  /** When it stops signing; null as long as none is there to take over. Before `signsFrom`: it never signs. */
  readonly signsUntil: Date | null
  /** When it leaves the key set; null as long as that is open. */
  readonly publishedUntil: Date | null
}

/** From `iat` to `exp` of the tokens that we sign, in seconds: the two minutes that Back-Channel Logout advises as the most (section 4). */
export const TOKEN_LIFETIME_S = 120
/** `Cache-Control: max-age` of our key set, in milliseconds. */
export const JWKS_MAX_AGE_MS = 300_000
/** How old a worker's copy of the keys may be before it asks again, in the background, in milliseconds. */
export const KEYRING_REFRESH_MS = 60_000
/** By how much clocks may differ, in milliseconds: those of our processes, and an RP's from ours. */
export const CLOCK_SKEW_MS = 60_000

/** How long a key stays published after its end as a signing key, in milliseconds. */
export const KEY_OVERLAP_MS = 24 * 3_600_000
/** How long it is published before it signs, in milliseconds, where nobody says otherwise: IdPs need time to merge it. */
export const KEY_LEAD_MS = 24 * 3_600_000
/** The least lead that is safe for those who keep our key set for as long as it says, twice over (IdP, then RP). */
export const KEY_LEAD_MS_MIN = 2 * JWKS_MAX_AGE_MS + KEYRING_REFRESH_MS + CLOCK_SKEW_MS
/** For so long after it was asked a copy of the keys says nothing that is wrong by now: what it says signs is still published. */
export const KEYRING_TRUST_MS = KEY_OVERLAP_MS - TOKEN_LIFETIME_S * 1_000 - 2 * CLOCK_SKEW_MS

/**
 * The key that signs at `now`, of all keys that one issuer has for one algorithm; null when there is none. The first of all
 * signs even where a clock that is behind says that its turn is to come: there is no other.
 */
export function signingKey<Key extends KeyLife>(keys: readonly Key[], now: Date): Key | null {
  const able = keys.filter(signsAtAll)
  return able.filter((key) => key.signsFrom <= now).reduce<Key | null>(later, null) ?? earliest(able)
}

/** The key that will take over from the one that signs at `now`, and when there are several the first of them. */
export function nextKey<Key extends KeyLife>(keys: readonly Key[], now: Date): Key | null {
  const current = signingKey(keys, now)
  return earliest(keys.filter((key) => key !== current && key.signsFrom > now && signsAtAll(key)))
}

/** When `key` stops signing and leaves the key set. @param keys all that its issuer has for its algorithm. */
export function keyTimes(key: KeyLife, keys: readonly KeyLife[]): KeyTimes {
  const signsUntil = signsAtAll(key) ? (successor(key, keys)?.signsFrom ?? null) : key.retiredAt
  const overlapped = signsUntil === null ? null : new Date(signsUntil.getTime() + KEY_OVERLAP_MS)
  return { signsUntil, publishedUntil: earlier(overlapped, key.withdrawnAt) }
}

/** @param keys all that its issuer has for its algorithm. */
export function keyState(key: KeyLife, keys: readonly KeyLife[], now: Date): KeyState {
  const { publishedUntil } = keyTimes(key, keys)
  if (publishedUntil !== null && publishedUntil <= now) return 'retired'
  if (signingKey(keys, now) === key) return 'current'
  return signsAtAll(key) && key.signsFrom > now ? 'next' : 'previous'
}

/** Whether `key` is in the key set at `now`. @param keys as `keyState`. */
export function isPublished(key: KeyLife, keys: readonly KeyLife[], now: Date): boolean {
  return keyState(key, keys, now) !== 'retired'
}

/** How the next key comes in: one that is there already is brought forward, or a new one gets these times. */
export type Rotation =
  | { readonly kind: 'new'; readonly publishedAt: Date; readonly signsFrom: Date }
  | { readonly kind: 'forward'; readonly kid: string; readonly signsFrom: Date }
  | { readonly kind: 'under_way'; readonly kid: string; readonly signsFrom: Date }

/**
 * How a key is to follow those that one issuer has for one algorithm. The first of all signs at once: nobody can have kept
 * a key set without it.
 *
 * @param leadMs from publication to the first signature; 0: at once, and whoever keeps a copy of the key set refuses its
 * tokens until the copy is renewed.
 */
export function rotation(keys: readonly KeyLife[], { now, leadMs }: { now: Date; leadMs: number }): Rotation {
  const next = nextKey(keys, now)
  if (next !== null && leadMs > 0) return { kind: 'under_way', kid: next.kid, signsFrom: next.signsFrom }
  const current = signingKey(keys, now)
  if (current === null) return { kind: 'new', publishedAt: now, signsFrom: now }
  // Of two keys that began in the same millisecond nobody could say which is the later one.
  const signsFrom = new Date(Math.max(now.getTime() + leadMs, current.signsFrom.getTime() + 1))
  return next === null
    ? { kind: 'new', publishedAt: now, signsFrom }
    : { kind: 'forward', kid: next.kid, signsFrom }
}

/** When the schedule wants the next key to be published, null when it is there already or nothing signs. */
export function rotationDue(
  keys: readonly KeyLife[],
  { now, everyMs, leadMs }: { now: Date; everyMs: number; leadMs: number },
): Date | null {
  const current = signingKey(keys, now)
  if (current === null || nextKey(keys, now) !== null) return null
  return new Date(current.signsFrom.getTime() + Math.max(everyMs - leadMs, 0))
}

/** Why a key cannot be retired now, or null. `soon`: workers may have taken it up before they hear of it. */
export function retirementFault(
  key: KeyLife,
  keys: readonly KeyLife[],
  { now, compromised }: { now: Date; compromised: boolean },
): 'current' | 'retired' | 'previous' | null {
  const state = keyState(key, keys, now)
  if (state === 'current' || state === 'retired') return state
  return state === 'previous' && !compromised ? 'previous' : null
}

/** Whether its turn comes at all: a key that was retired before it signed never does. */
function signsAtAll({ retiredAt }: KeyLife): boolean {
  return retiredAt === null
}

function successor(key: KeyLife, keys: readonly KeyLife[]): KeyLife | null {
  return earliest(keys.filter((each) => each !== key && signsAtAll(each) && later(key, each) === each))
}

/** The one whose turn comes first. */
function earliest<Key extends KeyLife>(keys: readonly Key[]): Key | null {
  return keys.reduce<Key | null>(
    (first, key) => (first !== null && later(first, key) === key ? first : key),
    null,
  )
}

/** The one whose turn comes later: by its time, then, of two at the same moment, the one that was published later. */
function later<Key extends KeyLife>(one: Key | null, other: Key): Key {
  if (one === null) return other
  const byTurn = other.signsFrom.getTime() - one.signsFrom.getTime()
  const byBirth = byTurn || other.publishedAt.getTime() - one.publishedAt.getTime()
  return (byBirth === 0 ? other.kid > one.kid : byBirth > 0) ? other : one
}

function earlier(one: Date | null, other: Date | null): Date | null {
  if (one === null || other === null) return one ?? other
  return one <= other ? one : other
}
