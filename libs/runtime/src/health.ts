import { CurfewError } from '@curfew/domain'
import type { Log } from './log.ts'

/** What must answer for a process to be ready, by name. Each resolves when it does. One that works in part rejects with a code of `…_DEGRADED`. */
export type Checks = Readonly<Record<string, () => Promise<void>>>

/** The names of checks that failed. */
export interface Readiness {
  /** The process is not ready while there are any. */
  readonly away: readonly string[]
  /** These work in part. */
  readonly degraded: readonly string[]
}

/**
 * Gives a function that asks every check and names those that failed. Probes at the same time share one asking;
 * one that takes longer than `deadlineMs` counts as away. That all
 * is well is believed for `keptMs`; what is not well is asked anew each time. The log is told when one begins to fail, and when it is well again.
 */
export function createReadiness(
  checks: Checks,
  { log, deadlineMs, keptMs = 0 }: { log: Log; deadlineMs: number; keptMs?: number },
): () => Promise<Readiness> {
  const asked = new Map<string, Promise<void>>()
  const failed = new Map<string, keyof Readiness>()

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
      if (failed.delete(name)) log.info({ event: 'check.recovered', check: name })
    } catch (error) {
      const how = error instanceof CurfewError && error.code.endsWith('_DEGRADED') ? 'degraded' : 'away'
      if (failed.get(name) !== how)
        log.warn({ event: `check.${how === 'away' ? 'failed' : how}`, check: name, err: error })
      failed.set(name, how)
    } finally {
      clearTimeout(timer)
    }
  }

  let wellMs = Number.NEGATIVE_INFINITY
  return async () => {
    const askedMs = performance.now()
    if (askedMs - wellMs < keptMs) return { away: [], degraded: [] }
    await Promise.all(Object.entries(checks).map(([name, check]) => ask(name, check)))
    if (failed.size === 0) wellMs = askedMs
    const those = (how: keyof Readiness) => Object.keys(checks).filter((name) => failed.get(name) === how)
    return { away: those('away'), degraded: those('degraded') }
  }
}
