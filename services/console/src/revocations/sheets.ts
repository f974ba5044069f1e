import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
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
/**
 * How long an answer is given again, in milliseconds, and how often the time that it took to make: a snapshot of a million entries takes
 * seconds. `as_of` is that old at most.
 */
const KEPT_MS = { min: 500, max: 10_000, perMs: 5 }

/** An answer of the feed. */
export interface Sheet {
  readonly seq: number
  /** A compact JWS. */
  readonly jws: string
  /** The JWS compressed, made once for all readers that ask for it. */
  gzipped(): Promise<Buffer>
}

const compress = promisify(gzip)

function sheetOf(seq: number, jws: string): Sheet {
  let gzipped: Promise<Buffer> | null = null
  return { seq, jws, gzipped: () => (gzipped ??= compress(jws, { level: 1 })) }
}

export interface SheetsDeps {
  /** The time before which the feeds that are read after the call have every accepted logout, in milliseconds since 1970. */
  asOf(): Promise<number>
  state(iss: Issuer): Promise<CutoffState>
  /** The live entries after a number; null if there are more than `limit`, which may be null. */
  read(request: { iss: Issuer; after: number; limit: number | null }): Promise<readonly CutoffEntry[] | null>
  sign(issuer: IssuerName, claims: RevocationsClaims): Promise<string>
  now(): Date
}

/**
 * Makes the answers of the feeds. Readers that ask for the same within half a second get the same bytes: a thousand resource servers
 * cost one signature.
 */
export interface Sheets {
  /** All live entries. */
  snapshot(issuer: FeedIssuer): Promise<Sheet | NoSheet>
  /** The entries after a number. @param atLeast a number of the feed that the answer must cover. */
  since(issuer: FeedIssuer, after: number, atLeast?: number): Promise<Sheet | NoSheet>
}

type FeedIssuer = Pick<IssuerRecord, 'name' | 'iss' | 'cutoffs'>

/**
 * Why there is no answer. `snapshot`: the number is not of this feed, or too much is new, so that the reader must take a snapshot.
 * The others are those of `CutoffState`.
 */
export type NoSheet = 'snapshot' | Exclude<CutoffState['kind'], 'open'>

interface Kept {
  readonly sheet: Promise<Sheet | NoSheet>
  /** Until then the answer is given again, in milliseconds since 1970. Infinite while it is made. */
  untilMs: number
}

export function createSheets({ asOf, state, read, sign, now }: SheetsDeps): Sheets {
  const kept = new Map<string, Kept>()

  function fresh(key: string, make: () => Promise<Sheet | NoSheet>): Kept {
    const beganMs = now().getTime()
    for (const [other, { untilMs }] of kept) if (untilMs <= beganMs) kept.delete(other)
    const known = kept.get(key)
    // A clock that went back must not keep an answer for longer.
    if (
      known !== undefined &&
      (known.untilMs - beganMs <= KEPT_MS.max || known.untilMs === Number.POSITIVE_INFINITY)
    )
      return known
    const made: Kept = { sheet: make(), untilMs: Number.POSITIVE_INFINITY }
    kept.set(key, made)
    made.sheet.then(
      () => {
        const tookMs = now().getTime() - beganMs
        made.untilMs = now().getTime() + Math.min(KEPT_MS.max, Math.max(KEPT_MS.min, tookMs * KEPT_MS.perMs))
      },
      () => kept.delete(key),
    )
    return made
  }

  async function once(
    key: string,
    make: () => Promise<Sheet | NoSheet>,
    atLeast = 0,
  ): Promise<Sheet | NoSheet> {
    for (;;) {
      const found = fresh(key, make)
      const sheet = await found.sheet
      if (typeof sheet !== 'object' || sheet.seq >= atLeast) return sheet
      // Made before the entry that the reader was woken for. Another reader may have replaced it meanwhile.
      if (kept.get(key) === found) kept.delete(key)
    }
  }

  async function make({ name, iss, cutoffs }: FeedIssuer, after: number | null): Promise<Sheet | NoSheet> {
    const at = now().getTime()
    // Before the entries are read: an entry that is added meanwhile is no promise of this answer.
    const asOfMs = await asOf()
    const { kind, seq, everybodyBefore } = await state(iss)
    if (kind !== 'open') return kind
    if (after !== null && after > seq) return 'snapshot'
    const limit = after === null ? null : DELTA_MAX
    const entries = after === seq ? [] : await read({ iss, after: after ?? 0, limit })
    if (entries === null) return 'snapshot'
    const claims: RevocationsClaims = {
      // With milliseconds: the age of as_of is counted from here.
      ...{ iss, iat: at / 1_000, max_staleness: MAX_STALENESS_S, max_token_ttl: cutoffs.maxTokenTtlS },
      // An entry that was committed after the number was read is in the answer, and comes again.
      ...{ after, seq, as_of: Math.floor(asOfMs) / 1_000 },
      issuer_before: everybodyBefore,
      entries,
    }
    return sheetOf(seq, await sign(name, claims))
  }

  return {
    snapshot: (issuer) => once(issuer.iss, () => make(issuer, null)),
    since: (issuer, after, atLeast) => once(`${issuer.iss} ${after}`, () => make(issuer, after), atLeast),
  }
}
