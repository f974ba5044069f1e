import type { ClaimedAudit } from '@curfew/ledger'
import type { Log } from '@curfew/runtime'
import type { TestSession } from './login.ts'
import { NAVIGATION, type Visitor } from './visitor.ts'

const REFRESH_TIMEOUT_MS = 10_000
const REFRESHES_MAX = 500
const REFRESH_PAUSE_MS = 10

export interface RefreshingDeps {
  readonly log: Pick<Log, 'warn'>
  /** Monotonic, in milliseconds. */
  readonly monotonicMs: () => number
  /** Resolves after a time in milliseconds, or earlier when the audit is interrupted. */
  readonly pause: (ms: number) => Promise<void>
  /** Aborts when the audit must end at once: the lease is lost, or the process stops. */
  readonly interrupted: AbortSignal
}

export interface Refreshing {
  /** Sends refreshes one after another, until `end` or until the logout is delivered, and one after that. */
  begin(deliveryState: () => Promise<string | undefined>): void
  end(): void
  /** When the last refresh ended; null: none was sent; infinity: more follow. */
  endedMs(): number | null
  answered(): number
}

/** Creates the refreshes that race with the logout of an audit. */
export function createRefreshing(
  { id, settings: { refresh } }: ClaimedAudit,
  { headers }: TestSession,
  visitor: Visitor,
  { monotonicMs, interrupted, pause, log }: RefreshingDeps,
): Refreshing {
  let ended = false
  let running = false
  let answered = 0
  let lastMs: number | null = null
  let warned = false

  function warn(error: unknown): void {
    if (!warned) log.warn({ event: 'audit.deliveries-unread', audit_id: id, err: error })
    warned = true
  }

  async function refreshOnce(request: NonNullable<typeof refresh>): Promise<void> {
    const answer = await visitor.visit({
      ...{ url: request.url, method: request.method, timeoutMs: REFRESH_TIMEOUT_MS },
      headers: { ...NAVIGATION, ...headers },
    })
    if (!('detail' in answer)) answered += 1
    lastMs = monotonicMs()
  }

  async function refreshOn(
    request: NonNullable<typeof refresh>,
    deliveryState: () => Promise<string | undefined>,
  ): Promise<void> {
    // A delivery that cannot be read may be under way, so the refreshes go on.
    const isDelivered = async () => {
      try {
        return !['pending', undefined].includes(await deliveryState())
      } catch (error) {
        warn(error)
        return false
      }
    }
    for (let sent = 0; sent < REFRESHES_MAX && !ended && !interrupted.aborted; sent++) {
      await refreshOnce(request)
      if (await isDelivered()) break
      await pause(REFRESH_PAUSE_MS)
    }
    // A refresh after the logout must not revive the session either.
    if (!interrupted.aborted) await refreshOnce(request)
  }

  return {
    begin(deliveryState) {
      if (refresh === undefined) return
      running = true
      refreshOn(refresh, deliveryState)
        // The checks go on, and decide.
        .catch((error: unknown) => log.warn({ event: 'audit.refreshes-failed', audit_id: id, err: error }))
        .finally(() => {
          running = false
        })
    },
    end() {
      ended = true
    },
    endedMs: () => (running ? Number.POSITIVE_INFINITY : lastMs),
    answered: () => answered,
  }
}
