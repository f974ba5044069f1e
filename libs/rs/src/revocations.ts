import { warn } from './events.ts'
import { readAnswer } from './feed/answer.ts'
import { follow } from './feed/follow.ts'
import { createFreshness } from './feed/freshness.ts'
import { createFeedKeys } from './feed/keys.ts'
import { createFeedRequest } from './feed/request.ts'
import { CLOCK_TOLERANCE_S, createFeedState } from './feed/state.ts'
import { createTable } from './feed/table.ts'
import { type RevocationsOptions, urlsOf } from './options.ts'
import { isCutOff, type TokenClaims } from './rule.ts'
import { createWatch } from './watch.ts'

/** How a route decides about a token while the logouts may be incomplete. */
export type Staleness = 'allow' | 'deny' | 'introspect'

/** `introspect`: ask the authorization server about the token. `stale_denied`: logouts may be missing, and the route denies. */
export type Decision = 'live' | 'revoked' | 'stale_denied' | 'introspect'

/** The state of a feed, for health checks and metrics. */
export interface RevocationsStatus {
  /** The number up to which the feed is applied; null before the first answer. */
  readonly seq: number | null
  /** Every logout that Curfew accepted before is known, by the clock of Curfew; null before the first answer. */
  readonly asOf: Date | null
  /** How long ago that was, in milliseconds; null before the first answer. */
  readonly ageMs: number | null
  /** Whether logouts may be missing. */
  readonly stale: boolean
  readonly entries: number
  /** The memory of the entries, in bytes. */
  readonly bytes: number
  /** The failures since the last good answer. */
  readonly failures: number
  /** The last failure; null after a good answer. */
  readonly lastError: string | null
  /** Totals since the process started. */
  readonly totals: { readonly snapshots: number; readonly refreshes: number; readonly failures: number }
  /** Decisions since the process started. `stale_allowed`: requests that passed because their route allows it. */
  readonly decisions: Readonly<Record<Decision | 'stale_allowed', number>>
}

/** The logouts of one issuer, as one process knows them. */
export interface Revocations {
  readonly issuer: string
  /** Reads the feed from now on. Failures are retried for ever. */
  start(): void
  /** Resolves after the first good answer. Rejects if the signal aborts, or after `stop`. */
  ready(signal?: AbortSignal): Promise<void>
  /**
   * Whether a known logout ended the token, whose signature and `exp` the caller has verified.
   *
   * @throws {ClaimsError} if the feed says nothing about such a token. It must be refused.
   */
  isRevoked(claims: TokenClaims): boolean
  /**
   * Decides about a token. A known logout always counts. `whenStale` decides if logouts may be missing: because the feed is silent, or
   * because the token is older than `max_token_ttl` of the issuer.
   *
   * @throws {ClaimsError} as `isRevoked`.
   */
  decide(claims: TokenClaims, whenStale: Staleness): Decision
  status(): RevocationsStatus
  /** Ends the reading, and says so to Curfew, which otherwise waits a minute for this process. */
  stop(): Promise<void>
}

/** The longest time that `stop` waits for Curfew, in milliseconds. */
const LEAVING_MS = 2_000

/** @throws {TypeError} that names a wrong option. */
export function createRevocations(options: RevocationsOptions): Revocations {
  const urls = urlsOf(options)
  const { issuer, key, since = 'iat', onEvent = warn, fetch = globalThis.fetch } = options
  const { now = () => performance.now(), wall = Date.now } = options
  const { answerMs = 5_000, snapshotMs = 60_000 } = options.timeouts ?? {}
  const table = createTable(Math.random)
  const freshness = createFreshness(options.maxStalenessMs ?? Number.POSITIVE_INFINITY)
  const state = createFeedState(issuer, { table, freshness })
  const keys = createFeedKeys({ url: urls.jwks, fetch, now })
  const ask = createFeedRequest({
    ...{ feed: urls.feed, key, fetch, timeouts: { answerMs, snapshotMs } },
    reader: options.reader ?? crypto.randomUUID(),
  })
  const watch = createWatch({ freshness, now, wall, onEvent })
  const decisions = { live: 0, revoked: 0, stale_denied: 0, introspect: 0, stale_allowed: 0 }
  const stopping = new AbortController()
  let running: Promise<void> | null = null

  const isRevoked = (claims: TokenClaims) => isCutOff(claims, state, { issuer, since })
  let left = false
  async function leave(): Promise<void> {
    const { seq } = state
    if (seq === null || left) return
    left = true
    const signal = AbortSignal.timeout(LEAVING_MS)
    // The process stops, whatever the answer. Without one, Curfew forgets this reader after a minute.
    await ask({ after: seq, waitS: 0, etag: null, leaving: true, signal }).catch(() => undefined)
  }

  /** Whether the logouts that end a token may be unknown. */
  function isUncertain({ iat }: TokenClaims): boolean {
    const nowMs = now()
    if (freshness.isStale(nowMs)) return true
    const ageS =
      freshness.curfewMs(nowMs) / 1_000 - (typeof iat === 'number' ? iat : Number.POSITIVE_INFINITY)
    if (!(ageS > state.maxTokenTtlS + CLOCK_TOLERANCE_S)) return false
    watch.outlived(Math.round(ageS), state.maxTokenTtlS)
    return true
  }

  return {
    issuer,
    isRevoked,
    start() {
      if (stopping.signal.aborted) throw new Error('the revocations were stopped; create new ones')
      running ??= follow(
        {
          ...{ state, freshness, ask, now, random: Math.random, note: watch.note },
          entries: () => table.size,
          read: (jws) => readAnswer(jws, { issuer, keys }),
        },
        stopping.signal,
      )
    },
    ready: (signal) => watch.ready(signal),
    decide(claims, whenStale) {
      const decision = isRevoked(claims) ? 'revoked' : isUncertain(claims) ? uncertain(whenStale) : 'live'
      decisions[decision]++
      return decision === 'stale_allowed' ? 'live' : decision
    },
    status() {
      const nowMs = now()
      const { asOfMs } = freshness
      return {
        ...{ seq: state.seq, asOf: asOfMs === null ? null : new Date(asOfMs) },
        ...{ ageMs: freshness.ageMs(nowMs), stale: freshness.isStale(nowMs) },
        ...{ entries: table.size, bytes: table.bytes, ...watch.counters(), decisions: { ...decisions } },
      }
    },
    async stop() {
      stopping.abort()
      watch.stop()
      await running
      await leave()
    },
  }
}

function uncertain(whenStale: Staleness) {
  if (whenStale === 'allow') return 'stale_allowed'
  return whenStale === 'introspect' ? 'introspect' : 'stale_denied'
}
