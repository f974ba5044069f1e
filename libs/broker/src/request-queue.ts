import { createRequire } from 'node:module'

/** What we know of kafkajs's request queue, which it does not export. The version is pinned for this. */
interface RequestQueue {
  readonly pending: readonly unknown[]
  readonly throttledUntil: number
  throttleCheckTimeoutId: NodeJS.Timeout | null
  checkPendingRequests(): void
  scheduleCheckPendingRequests(): void
}

const CHECK_PENDING_INTERVAL_MS = 10

let calmed = false

/**
 * Replaces the timer of kafkajs's request queue (its issue 1751). The original computes a negative delay whenever the
 * broker does not throttle it, of which Node warns (TimeoutNegativeWarning), and then runs once a millisecond on
 * every connection for ever. Nothing needs checking while nothing is pending: `push` schedules again.
 */
export function calmRequestQueue(): void {
  if (calmed) return
  calmed = true
  const { prototype } = createRequire(import.meta.url)('kafkajs/src/network/requestQueue/index.js') as {
    readonly prototype: RequestQueue
  }
  if (typeof prototype.scheduleCheckPendingRequests !== 'function') {
    throw new TypeError('kafkajs is not the version that libs/broker was written for')
  }
  prototype.scheduleCheckPendingRequests = function scheduleCheckPendingRequests(this: RequestQueue) {
    if (this.throttleCheckTimeoutId !== null || this.pending.length === 0) return
    const throttledMs = this.throttledUntil - Date.now()
    this.throttleCheckTimeoutId = setTimeout(
      () => {
        this.throttleCheckTimeoutId = null
        this.checkPendingRequests()
      },
      throttledMs > 0 ? throttledMs : CHECK_PENDING_INTERVAL_MS,
    )
  }
}
