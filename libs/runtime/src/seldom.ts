/** Most keys that are kept in memory. */
const KNOWN_MAX = 1_000

/**
 * Limits how often something happens per key: the returned function is true at the first call, then once per `everyMs`. It
 * throttles log lines about repeated failures.
 *
 * @param monotonicMs a clock that only moves forward, in milliseconds.
 */
export function createThrottle({
  everyMs = 60_000,
  monotonicMs = () => performance.now(),
}: {
  everyMs?: number
  monotonicMs?: () => number
} = {}): (key: string) => boolean {
  const lastMs = new Map<string, number>()
  return (key) => {
    const nowMs = monotonicMs()
    if (nowMs - (lastMs.get(key) ?? Number.NEGATIVE_INFINITY) < everyMs) return false
    if (lastMs.size >= KNOWN_MAX) lastMs.clear()
    lastMs.set(key, nowMs)
    return true
  }
}
