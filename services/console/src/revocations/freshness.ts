import type { EventLogMonitor } from '@curfew/domain'
import { within } from '@curfew/runtime'

/** A look at the event log is used again for this long, in milliseconds. To look at Kafka takes a while. */
const FRESH_MS = 250
/** How long an answer waits for the next look if the last one is older than a time, in milliseconds, the oldest first. */
const WAITS = [
  { olderMs: 3_000, waitMs: 2_000 },
  { olderMs: 500, waitMs: 200 },
]

/** The lanes of the event log in which logouts wait. */
const LANES: readonly string[] = ['interactive', 'bulk']

export interface FreshnessDeps {
  readonly monitor: Pick<EventLogMonitor, 'look'>
  /** How far the feeds are behind the plans, in milliseconds. */
  behindMs(): Promise<number>
  now(): Date
}

/**
 * Finds the time before which every accepted logout is in the feeds, in milliseconds since 1970. A logout waits in the event log, then
 * in the journal. While the state of the event log is unknown the time stands still, so that readers notice that they are stale.
 *
 * @returns the time for feeds that are read after the call; 0 if none is known.
 */
export function createFreshness({ monitor, behindMs, now }: FreshnessDeps): () => Promise<number> {
  /** When the last look began, and the time before which the event log had passed everything on. */
  let last = { beganMs: Number.NEGATIVE_INFINITY, plannedMs: 0 }
  let looking: Promise<void> | null = null
  /** A look that took longer than an answer waits. No other answer waits for it. */
  let slow: Promise<void> | null = null

  async function look(): Promise<void> {
    const beganMs = now().getTime()
    try {
      const { lanes } = await monitor.look()
      const ours = lanes.filter(({ lane }) => LANES.includes(lane))
      const ages = ours.map((lane) => (lane.unknown === null ? lane.oldestSeconds : null))
      const isKnown = ours.length === LANES.length && !ages.includes(null)
      const plannedMs = beganMs - Math.max(0, ...ages.map((age) => age ?? 0)) * 1_000
      last = { beganMs, plannedMs: isKnown ? plannedMs : last.plannedMs }
    } catch {
      // The check `event-log` reports it.
      last = { beganMs, plannedMs: last.plannedMs }
    } finally {
      looking = null
    }
  }

  return async () => {
    const age = Math.abs(now().getTime() - last.beganMs)
    if (age > FRESH_MS) looking ??= look()
    const { waitMs } = WAITS.find(({ olderMs }) => age > olderMs) ?? { waitMs: 0 }
    if (waitMs > 0 && looking !== null && looking !== slow) {
      const awaited = looking
      const done = awaited.then(() => true)
      if (!(await within(done, waitMs, false))) slow = awaited
    }
    const beforeMs = now().getTime()
    return Math.min(last.plannedMs, beforeMs - (await behindMs()))
  }
}
