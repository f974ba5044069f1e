// The states of a signing key. Key sets are cached by the IdP that merges ours into its own, by RPs, and by our own workers. A
// key is therefore published for some time before and after it signs. The clock alone decides which of an issuer's keys for one
// algorithm signs: all processes that know the same keys choose the same one.

/** The stored times of a key. Its state follows from them and from the keys after it. */
export interface KeyLife {
  readonly kid: string
  /** When the key enters the key set, never after `signsFrom`. */
  readonly publishedAt: Date
  readonly signsFrom: Date
  /** When the key was retired, so that it never signs again; null if it signs until the next key does. */
  readonly retiredAt: Date | null
  /** When the key left the key set at once, because its private key may be known to others. */
  readonly withdrawnAt: Date | null
}

/**
 * The state of a key.
 * - `next`: published, but does not sign yet.
 * - `current`: signs.
 * - `previous`: does not sign, but stays published for the tokens that it signed.
 * - `retired`: not in the key set.
 */
export type KeyState = 'next' | 'current' | 'previous' | 'retired'

/** The derived times of a key. */
export interface KeyTimes {
  /** When the key stops signing; null without a successor. If before `signsFrom`, the key never signs. */
  readonly signsUntil: Date | null
  /** When the key leaves the key set; null if that is not decided. */
  readonly publishedUntil: Date | null
}

/** The time from `iat` to `exp` of our tokens, in seconds. Back-Channel Logout section 4 recommends at most two minutes. */
export const TOKEN_LIFETIME_S = 120
/** `Cache-Control: max-age` of our key set, in milliseconds. */
export const JWKS_MAX_AGE_MS = 300_000
/** The age at which a worker refreshes its copy of the keys in the background, in milliseconds. */
export const KEYRING_REFRESH_MS = 60_000
/** The tolerated difference between clocks, in milliseconds: between our processes, and between an RP and Curfew. */
export const CLOCK_SKEW_MS = 60_000

/** How long a key stays published after it stops signing, in milliseconds. */
export const KEY_OVERLAP_MS = 24 * 3_600_000
/** The default time between the publication of a key and its first signature, in milliseconds. IdPs need it to merge the key. */
export const KEY_LEAD_MS = 24 * 3_600_000
/** The shortest safe lead, in milliseconds: an IdP and then an RP each cache our key set for its full `max-age`. */
export const KEY_LEAD_MS_MIN = 2 * JWKS_MAX_AGE_MS + KEYRING_REFRESH_MS + CLOCK_SKEW_MS
/**
 * How long a worker may use a copy of the keys, in milliseconds. Until then, the key that signs by the copy is still published.
 */
export const KEYRING_TRUST_MS = KEY_OVERLAP_MS - TOKEN_LIFETIME_S * 1_000 - 2 * CLOCK_SKEW_MS

/**
 * The key that signs at `now`, of one issuer's keys for one algorithm; null if there is none. The first key signs even before its
 * `signsFrom`, because a clock may be behind and there is no other key.
 */
export function signingKey<Key extends KeyLife>(keys: readonly Key[], now: Date): Key | null {
  const able = keys.filter(signsAtAll)
  return able.filter((key) => key.signsFrom <= now).reduce<Key | null>(later, null) ?? earliest(able)
}

/** The key that signs next after the one that signs at `now`; null if there is none. */
export function nextKey<Key extends KeyLife>(keys: readonly Key[], now: Date): Key | null {
  const current = signingKey(keys, now)
  return earliest(keys.filter((key) => key !== current && key.signsFrom > now && signsAtAll(key)))
}

/** When `key` stops signing and leaves the key set. @param keys all keys of its issuer for its algorithm. */
export function keyTimes(key: KeyLife, keys: readonly KeyLife[]): KeyTimes {
  const signsUntil = signsAtAll(key) ? (successor(key, keys)?.signsFrom ?? null) : key.retiredAt
  const overlapped = signsUntil === null ? null : new Date(signsUntil.getTime() + KEY_OVERLAP_MS)
  return { signsUntil, publishedUntil: earlier(overlapped, key.withdrawnAt) }
}

/** @param keys all keys of its issuer for its algorithm. */
export function keyState(key: KeyLife, keys: readonly KeyLife[], now: Date): KeyState {
  const { publishedUntil } = keyTimes(key, keys)
  if (publishedUntil !== null && publishedUntil <= now) return 'retired'
  if (signingKey(keys, now) === key) return 'current'
  return signsAtAll(key) && key.signsFrom > now ? 'next' : 'previous'
}

/** Whether `key` is in the key set at `now`. @param keys all keys of its issuer for its algorithm. */
export function isPublished(key: KeyLife, keys: readonly KeyLife[], now: Date): boolean {
  return keyState(key, keys, now) !== 'retired'
}

/**
 * The decision about a rotation.
 * - `new`: a new key gets these times.
 * - `forward`: the next key signs earlier, from `signsFrom`.
 * - `under_way`: the next key exists and stays as it is.
 */
export type Rotation =
  | { readonly kind: 'new'; readonly publishedAt: Date; readonly signsFrom: Date }
  | { readonly kind: 'forward'; readonly kid: string; readonly signsFrom: Date }
  | { readonly kind: 'under_way'; readonly kid: string; readonly signsFrom: Date }

/**
 * Decides whether an issuer's next key for an algorithm is made, brought forward, or left as it is. If no key signs yet, the new
 * key signs at once: no other key could sign in the meantime.
 *
 * @param leadMs the time from publication to the first signature. With 0, an RP with a cached key set refuses the tokens until it
 * refreshes the key set.
 */
export function rotation(keys: readonly KeyLife[], { now, leadMs }: { now: Date; leadMs: number }): Rotation {
  const next = nextKey(keys, now)
  if (next !== null && leadMs > 0) return { kind: 'under_way', kid: next.kid, signsFrom: next.signsFrom }
  const current = signingKey(keys, now)
  if (current === null) return { kind: 'new', publishedAt: now, signsFrom: now }
  // The next key starts at least a millisecond after the current one, so that their order is clear.
  const signsFrom = new Date(Math.max(now.getTime() + leadMs, current.signsFrom.getTime() + 1))
  return next === null
    ? { kind: 'new', publishedAt: now, signsFrom }
    : { kind: 'forward', kid: next.kid, signsFrom }
}

/** When the schedule publishes the next key; null if that key exists already, or if no key signs. */
export function rotationDue(
  keys: readonly KeyLife[],
  { now, everyMs, leadMs }: { now: Date; everyMs: number; leadMs: number },
): Date | null {
  const current = signingKey(keys, now)
  if (current === null || nextKey(keys, now) !== null) return null
  return new Date(current.signsFrom.getTime() + Math.max(everyMs - leadMs, 0))
}

/** The state because of which a key cannot be retired now; null if it can. A `previous` key can be retired if compromised. */
export function retirementFault(
  key: KeyLife,
  keys: readonly KeyLife[],
  { now, compromised }: { now: Date; compromised: boolean },
): 'current' | 'retired' | 'previous' | null {
  const state = keyState(key, keys, now)
  if (state === 'current' || state === 'retired') return state
  return state === 'previous' && !compromised ? 'previous' : null
}

/** Whether the key takes part in signing. A retired key does not. */
function signsAtAll({ retiredAt }: KeyLife): boolean {
  return retiredAt === null
}

function successor(key: KeyLife, keys: readonly KeyLife[]): KeyLife | null {
  return earliest(keys.filter((other) => other !== key && signsAtAll(other) && later(key, other) === other))
}

/** The key that signs first. */
function earliest<Key extends KeyLife>(keys: readonly Key[]): Key | null {
  return keys.reduce<Key | null>(
    (first, key) => (first !== null && later(first, key) === key ? first : key),
    null,
  )
}

/** The key that signs later; at equal times, the one published later; then the one with the greater kid. */
function later<Key extends KeyLife>(one: Key | null, other: Key): Key {
  if (one === null) return other
  const difference =
    other.signsFrom.getTime() - one.signsFrom.getTime() ||
    other.publishedAt.getTime() - one.publishedAt.getTime()
  return (difference === 0 ? other.kid > one.kid : difference > 0) ? other : one
}

function earlier(one: Date | null, other: Date | null): Date | null {
  if (one === null || other === null) return one ?? other
  return one <= other ? one : other
}
