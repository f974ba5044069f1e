import type { RevocationsEvent } from './events.ts'
import type { FollowDeps } from './feed/follow.ts'
import type { Freshness } from './feed/freshness.ts'

export interface WatchDeps {
  readonly freshness: Freshness
  /** A monotonic clock in milliseconds. */
  readonly now: () => number
  /** The wall clock in milliseconds since 1970. */
  readonly wall: () => number
  readonly onEvent: (event: RevocationsEvent) => void
}

/** Counts what happens, and tells when the state becomes stale and fresh. */
export interface Watch {
  readonly note: FollowDeps['note']
  /** A token older than the longest life was seen. Told at most once a minute. */
  outlived(ageS: number, maxTokenTtlS: number): void
  ready(signal?: AbortSignal): Promise<void>
  counters(): {
    readonly failures: number
    readonly lastError: string | null
    readonly totals: { readonly snapshots: number; readonly refreshes: number; readonly failures: number }
  }
  stop(): void
}

const CLOCK_OFF_MS = 60_000
const OUTLIVED_EVERY_MS = 60_000

export function createWatch({ freshness, now, wall, onEvent }: WatchDeps): Watch {
  const totals = { snapshots: 0, refreshes: 0, failures: 0 }
  const first = deferred()
  // A caller need not wait for it.
  first.promise.catch(() => undefined)
  let failures = 0
  let lastError: string | null = null
  let fresh = false
  let clockOff = false
  let outlivedMs = Number.NEGATIVE_INFINITY
  let timer: ReturnType<typeof setTimeout> | undefined

  function tell(event: RevocationsEvent): void {
    try {
      onEvent(event)
    } catch (error) {
      // The fault of a listener must not end the reading.
      console.error(error)
    }
  }
  const asOf = () => (freshness.asOfMs === null ? null : new Date(freshness.asOfMs))

  /** Tells a change between fresh and stale, and looks again when the state would become stale. */
  function look(): void {
    clearTimeout(timer)
    const [nowMs, at] = [now(), asOf()]
    const isFresh = at !== null && !freshness.isStale(nowMs)
    if (isFresh !== fresh) {
      fresh = isFresh
      tell(isFresh ? { type: 'fresh', asOf: at } : { type: 'stale', asOf: at })
    }
    if (!isFresh) return
    timer = setTimeout(look, freshness.maxStalenessMs - (freshness.ageMs(nowMs) ?? 0) + 1)
    timer.unref()
  }

  function compareClocks(): void {
    const aheadMs = Math.round(wall() - freshness.curfewMs(now()))
    const off = Math.abs(aheadMs) > CLOCK_OFF_MS
    if (off && !clockOff) tell({ type: 'clock', aheadMs })
    clockOff = off
  }

  return {
    note(event) {
      tell(event)
      if (event.type === 'failed') {
        totals.failures++
        failures = event.failures
        lastError = event.error.message
        look()
        return
      }
      totals[event.type === 'snapshot' ? 'snapshots' : 'refreshes']++
      failures = 0
      lastError = null
      first.resolve()
      look()
      compareClocks()
    },
    outlived(ageS, maxTokenTtlS) {
      if (now() - outlivedMs < OUTLIVED_EVERY_MS) return
      outlivedMs = now()
      tell({ type: 'outlived', ageS, maxTokenTtlS })
    },
    async ready(signal) {
      if (signal === undefined) return first.promise
      signal.throwIfAborted()
      const aborted = deferred()
      const abort = () => aborted.reject(signal.reason)
      signal.addEventListener('abort', abort, { once: true })
      try {
        await Promise.race([first.promise, aborted.promise])
      } finally {
        signal.removeEventListener('abort', abort)
      }
    },
    counters: () => ({ failures, lastError, totals: { ...totals } }),
    stop() {
      clearTimeout(timer)
      first.reject(new Error('the revocations were stopped before the first answer'))
    },
  }
}

/** `Promise.withResolvers`, which Node.js 20 lacks. */
function deferred() {
  let resolve: () => void = () => undefined
  let reject: (reason: unknown) => void = () => undefined
  const promise = new Promise<void>((onResolve, onReject) => {
    resolve = onResolve
    reject = onReject
  })
  return { promise, resolve, reject }
}
