import { hash } from 'node:crypto'

/** The claims that a check needs, and the header fields of its answer. */
export interface VerifiedToken {
  readonly claims: {
    readonly iss: string
    readonly sub?: string
    readonly sid?: string
    readonly iat?: number
    readonly auth_time?: number
  }
  /** The end of the token, in seconds since 1970. */
  readonly exp: number
  readonly headers: Readonly<Record<string, string>>
}

/** Bounded memory of tokens whose signature was verified. The least recently used one is dropped first. */
export interface VerifiedTokens {
  readonly count: number
  get(token: string): VerifiedToken | null
  set(token: string, verified: VerifiedToken): void
}

/** How long a token is not verified again, in milliseconds: a key that the issuer withdraws must not be trusted for long. */
const KEPT_MS = 5 * 60_000
/** An estimate of the bytes of an entry beside its texts. */
const ENTRY_BYTES = 600

interface Entry {
  readonly verified: VerifiedToken
  readonly untilMs: number
  readonly bytes: number
}

/**
 * @param bytesMax the memory that all entries may take.
 * @param options.clockSkewS a token counts as expired this long after its `exp`, in seconds.
 */
export function createVerifiedTokens(
  bytesMax: number,
  { clockSkewS, nowMs }: { readonly clockSkewS: number; readonly nowMs: () => number },
): VerifiedTokens {
  const entries = new Map<string, Entry>()
  let bytes = 0

  function drop(key: string, entry: Entry): void {
    entries.delete(key)
    bytes -= entry.bytes
  }
  // A hash has a fixed size, and memory that is read by others shows no tokens.
  const keyOf = (token: string) => hash('sha256', token, 'base64')

  return {
    get count() {
      return entries.size
    },
    get(token) {
      const key = keyOf(token)
      const entry = entries.get(key)
      if (entry === undefined) return null
      if (entry.untilMs <= nowMs()) {
        drop(key, entry)
        return null
      }
      entries.delete(key)
      entries.set(key, entry)
      return entry.verified
    },
    set(token, verified) {
      const key = keyOf(token)
      const old = entries.get(key)
      if (old !== undefined) drop(key, old)
      const untilMs = Math.min(nowMs() + KEPT_MS, (verified.exp + clockSkewS) * 1_000)
      const entry = { verified, untilMs, bytes: ENTRY_BYTES + 2 * JSON.stringify(verified).length }
      entries.set(key, entry)
      bytes += entry.bytes
      for (const [oldest, each] of entries) {
        if (bytes <= bytesMax) break
        drop(oldest, each)
      }
    },
  }
}
