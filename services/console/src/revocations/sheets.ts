import type { Issuer, IssuerName } from '@curfew/domain'
import type { CutoffEntry, CutoffState, IssuerRecord } from '@curfew/ledger'

/** The claims of an answer of the feed (typ `revocations+jwt`). */
export interface RevocationsClaims {
  readonly iss: Issuer
  readonly iat: number
  /**
   * The number after which the entries begin; null in a snapshot. A reader checks it, because the answer to another question would
   * make it skip entries.
   */
  readonly after: number | null
  /** The number of the last entry that the answer covers. */
  readonly seq: number
  /** Seconds since 1970: the feed has every logout that was accepted before. */
  readonly as_of: number
  /** How old `as_of` may be before a reader must take itself for stale, in seconds. */
  readonly max_staleness: number
  /** The longest life of a token, in seconds. A reader may forget an entry this long after its time. */
  readonly max_token_ttl: number
  /** Tokens of the issuer that are this old or older are dead, in seconds since 1970; null if there is no such logout. */
  readonly issuer_before: number | null
  /** The key in base64url, and the time of the cutoff in seconds since 1970. */
  readonly entries: readonly (readonly [key: string, before: number])[]
}

export const MAX_STALENESS_S = 30
/** Most entries of an answer to `after`. A reader that lacks more takes a snapshot. */
export const DELTA_MAX = 10_000
/** How long an answer is given again, in milliseconds: `as_of` is that old at most. */
const KEPT_MS = 500

/** An answer of the feed. */
export interface Sheet {
  readonly seq: number
  /** A compact JWS. */
  readonly jws: string
}

export interface SheetsDeps {
  /** The state of the feed, and how far it is behind what was accepted, in milliseconds. */
  state(iss: Issuer): Promise<CutoffState & { readonly behindMs: number }>
  read(request: { iss: Issuer; after: number; limit: number }): Promise<readonly CutoffEntry[]>
  sign(issuer: IssuerName, claims: RevocationsClaims): Promise<string>
  now(): Date
}

/**
 * Makes the answers of the feeds. Readers that ask for the same within half a second get the same bytes: a thousand resource servers
 * cost one signature.
 */
export interface Sheets {
  /** All live entries. */
  snapshot(issuer: FeedIssuer): Promise<Sheet>
  /**
   * The entries after a number.
   *
   * @param seq a number that the feed is known to have: the answer covers it, and is not one that was kept from before.
   * @returns null if the reader must take a snapshot: the number is not of this feed, or too much is new.
   */
  since(issuer: FeedIssuer, after: number, seq?: number): Promise<Sheet | null>
}

type FeedIssuer = Pick<IssuerRecord, 'name' | 'iss' | 'cutoffs'>

export function createSheets({ state, read, sign, now }: SheetsDeps): Sheets {
  const kept = new Map<string, { readonly atMs: number; readonly sheet: Promise<Sheet | null> }>()

  function once(key: string, make: () => Promise<Sheet | null>): Promise<Sheet | null> {
    const nowMs = now().getTime()
    const known = kept.get(key)
    if (known !== undefined && Math.abs(nowMs - known.atMs) < KEPT_MS) return known.sheet
    for (const [other, { atMs }] of kept) if (Math.abs(nowMs - atMs) >= KEPT_MS) kept.delete(other)
    const sheet = make()
    kept.set(key, { atMs: nowMs, sheet })
    sheet.catch(() => kept.delete(key))
    return sheet
  }

  async function make({ name, iss, cutoffs }: FeedIssuer, after: number | null): Promise<Sheet | null> {
    const at = now().getTime()
    const { seq, everybodyBefore, behindMs } = await state(iss)
    if (after !== null && after > seq) return null
    const limit = after === null ? Number.MAX_SAFE_INTEGER : DELTA_MAX + 1
    const entries = after === seq ? [] : await read({ iss, after: after ?? 0, limit })
    if (after !== null && entries.length > DELTA_MAX) return null
    const claims: RevocationsClaims = {
      // With milliseconds: the age of as_of is counted from here.
      ...{ iss, iat: at / 1_000, max_staleness: MAX_STALENESS_S, max_token_ttl: cutoffs.maxTokenTtlS },
      // An entry that was committed after the number was read is in the answer, and comes again.
      ...{ after, seq, as_of: Math.floor(at - behindMs) / 1_000 },
      issuer_before: everybodyBefore,
      entries: merged(entries),
    }
    return { seq, jws: await sign(name, claims) }
  }

  return {
    async snapshot(issuer) {
      const sheet = await once(issuer.iss, () => make(issuer, null))
      if (sheet === null) throw new Error('a snapshot is always made')
      return sheet
    },
    since: (issuer, after, seq = after) => once(`${issuer.iss} ${after} ${seq}`, () => make(issuer, after)),
  }
}

/** The entries by key, each with its last cutoff. */
function merged(entries: readonly CutoffEntry[]): readonly (readonly [string, number])[] {
  const byKey = new Map<string, number>()
  for (const { key, before } of entries) {
    if (key === null) continue
    const text = key.toString('base64url')
    byKey.set(text, Math.max(before, byKey.get(text) ?? before))
  }
  return [...byKey]
}
