/** Keys that are remembered. */
const KNOWN_MAX = 1_000

/**
 * Says of a key whether it is time again: at once, then once in `everyMs`. For log lines of what fails again and again.
 *
 * @param monotonicMs time that only goes forward, in milliseconds.
 */
export function createSeldom({
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
