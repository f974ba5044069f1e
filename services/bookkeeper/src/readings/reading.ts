import type { Job } from '../repeat.ts'

const PAUSE_MS = 15_000
const FAILURE_PAUSE_MS = 5_000
/** A value older than this counts as unknown, in milliseconds: the reading hangs. */
const KEPT_MS = 60_000

/** A job that reads a value again and again, for metrics. */
export interface Reading<Value> extends Job {
  /** The last value. Null if there is none, the last reading failed, or the value is more than a minute old. */
  latest(): Value | null
}

/** Creates a job that reads a value every 15 s. @param name the name of the job in log events, a noun. */
export function createReading<Value>(
  name: string,
  read: () => Promise<Value>,
  { monotonicMs = () => performance.now() }: { readonly monotonicMs?: () => number } = {},
): Reading<Value> {
  let last: { readonly value: Value; readonly atMs: number } | null = null
  return {
    name,
    pauseMs: PAUSE_MS,
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
    latest: () => (last !== null && monotonicMs() - last.atMs <= KEPT_MS ? last.value : null),
  }
}
