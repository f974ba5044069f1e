import { createRequire } from 'node:module'

/**
 * The part of kafkajs's request queue that is used here, which kafkajs does not export. Its version is pinned for this reason.
 */
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
 * Replaces the timer of kafkajs's request queue (its issue 1751). Without throttling the original computes a negative delay. Node
 * warns (TimeoutNegativeWarning), and the timer runs once a millisecond on every connection for ever. An empty queue needs no
 * timer: `push` schedules it again.
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
