import { CurfewError, type EventLogMonitor } from '@curfew/domain'
import { within } from '@curfew/runtime'

/** Accepted logouts have waited in the event log for more than a minute. */
export class BacklogDegradedError extends CurfewError {
  override readonly code = 'ERR_BACKLOG_DEGRADED'
}

const OLDEST_S_MAX = 60
/** The state is read again when it is older than this, and does not count when it is older than `KEPT_MS`. */
const FRESH_MS = 10_000
const KEPT_MS = 60_000

/**
 * Creates the readiness check of the backlog of the interactive lane. It judges the last known state, and reads the next one
 * beside: to read the state of Kafka takes longer than a check may take. It passes while the state is unknown.
 *
 * @returns the check. `waitMs` is how long it may wait for a reading if it has none, in milliseconds; default 0.
 */
export function createBacklogCheck(
  monitor: Pick<EventLogMonitor, 'look'>,
  { monotonicMs = () => performance.now() }: { readonly monotonicMs?: () => number } = {},
): (options?: { readonly waitMs?: number }) => Promise<void> {
  let last: { readonly oldestSeconds: number | null; readonly atMs: number } | null = null
  let looking: Promise<void> | null = null

  async function look(): Promise<void> {
    try {
      const { lanes } = await monitor.look()
      const lane = lanes.find((each) => each.lane === 'interactive')
      const oldestSeconds = lane?.unknown === null ? lane.oldestSeconds : null
      last = { oldestSeconds, atMs: monotonicMs() }
    } catch {
      // The check `event-log` reports it.
      last = { oldestSeconds: null, atMs: monotonicMs() }
    } finally {
      looking = null
    }
  }

  const isOlder = (ms: number) => last === null || monotonicMs() - last.atMs > ms

  return async ({ waitMs = 0 } = {}) => {
    if (looking === null && isOlder(FRESH_MS)) looking = look()
    if (waitMs > 0 && looking !== null && isOlder(KEPT_MS)) await within(looking, waitMs, undefined)
    if (last === null || isOlder(KEPT_MS) || last.oldestSeconds === null) return
    if (last.oldestSeconds <= OLDEST_S_MAX) return
    throw new BacklogDegradedError(
      `the oldest accepted logout has waited for ${Math.round(last.oldestSeconds)} s in the event log`,
    )
  }
}
