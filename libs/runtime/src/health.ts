import type { Log } from './log.ts'

/** What must answer for a process to be ready, by name. Each resolves when it does. */
export type Checks = Readonly<Record<string, () => Promise<void>>>

/**
 * Gives a function that asks every check and names those that did not answer. Probes at the same time share one asking;
 * one that takes longer than `deadlineMs` counts as away. That all
 * is well is believed for `keptMs`; what is away is asked anew each time. The log is told when one begins to fail, and when it is well again.
 */
export function createReadiness(
  checks: Checks,
  { log, deadlineMs, keptMs = 0 }: { log: Log; deadlineMs: number; keptMs?: number },
): () => Promise<readonly string[]> {
  const asked = new Map<string, Promise<void>>()
  const away = new Set<string>()

  async function ask(name: string, check: () => Promise<void>): Promise<void> {
    const { promise: late, reject } = Promise.withResolvers<never>()
    const timer = setTimeout(() => {
      // Its connection may be dead, so the next probe asks anew.
      asked.delete(name)
      reject(new Error(`no answer in ${deadlineMs} ms`))
    }, deadlineMs)
    try {
      const answer = asked.get(name) ?? check().finally(() => asked.delete(name))
      asked.set(name, answer)
      await Promise.race([answer, late])
      if (away.delete(name)) log.info({ event: 'check.recovered', check: name })
    } catch (error) {
      if (!away.has(name)) log.warn({ event: 'check.failed', check: name, err: error })
      away.add(name)
    } finally {
      clearTimeout(timer)
    }
  }

  let wellMs = Number.NEGATIVE_INFINITY
  return async () => {
    const askedMs = performance.now()
    if (askedMs - wellMs < keptMs) return []
    await Promise.all(Object.entries(checks).map(([name, check]) => ask(name, check)))
    if (away.size === 0) wellMs = askedMs
    return Object.keys(checks).filter((name) => away.has(name))
  }
}
