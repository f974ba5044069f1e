import type { Job } from '../repeat.ts'

const PAUSE_MS = 15_000
const FAILURE_PAUSE_MS = 5_000
/** A value older than a minute, and than this many pauses, counts as unknown: the reading hangs. */
const KEPT_MS = 60_000
const KEPT_PAUSES = 4

/** A job that reads a value again and again, for metrics. */
export interface Reading<Value> extends Job {
  /** The last value. Null if there is none, the last reading failed, or it hangs: see `KEPT_MS`. */
  latest(): Value | null
}

/**
 * Creates a job that reads a value again and again.
 *
 * @param name the name of the job in log events, a noun.
 * @param pauseMs returns the pause between two readings, in milliseconds. Default 15 s.
 */
export function createReading<Value>(
  name: string,
  read: () => Promise<Value>,
  {
    pauseMs = () => PAUSE_MS,
    monotonicMs = () => performance.now(),
  }: { readonly pauseMs?: () => number; readonly monotonicMs?: () => number } = {},
): Reading<Value> {
  let last: { readonly value: Value; readonly atMs: number } | null = null
  return {
    name,
    get pauseMs() {
      return pauseMs()
    },
    failurePauseMs: FAILURE_PAUSE_MS,
    async round() {
      try {
        last = { value: await read(), atMs: monotonicMs() }
      } catch (error) {
        last = null
        throw error
      }
      return false
    },
    latest() {
      const keptMs = Math.max(KEPT_MS, KEPT_PAUSES * pauseMs())
      return last !== null && monotonicMs() - last.atMs <= keptMs ? last.value : null
    },
  }
}
