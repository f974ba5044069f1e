import { CurfewError } from '@curfew/domain'
import type { Log } from './log.ts'

/**
 * The checks of a process's readiness, by name. Each resolves when it passes. If it passes only in part, it rejects with a code
 * of `…_DEGRADED`.
 */
export type Checks = Readonly<Record<string, () => Promise<void>>>

/** The names of checks that failed. */
export interface Readiness {
  /** Checks that fail. The process is not ready while there are any. */
  readonly unavailable: readonly string[]
  /** Checks that work in part. */
  readonly degraded: readonly string[]
}

/**
 * Returns a function that runs every check and names those that failed. Concurrent probes share one run. A check that takes
 * longer than `deadlineMs` counts as failed. A result without failures is reused for `keptMs`; failed checks run again each
 * time. The log has one line when a check begins to fail, and one when it recovers.
 */
export function createReadiness(
  checks: Checks,
  { log, deadlineMs, keptMs = 0 }: { log: Log; deadlineMs: number; keptMs?: number },
): () => Promise<Readiness> {
  const running = new Map<string, Promise<void>>()
  const failed = new Map<string, keyof Readiness>()

  async function run(name: string, check: () => Promise<void>): Promise<void> {
    const { promise: late, reject } = Promise.withResolvers<never>()
    const timer = setTimeout(() => {
      // The check's connection may be dead, so the next probe runs the check again.
      running.delete(name)
      reject(new Error(`no answer in ${deadlineMs} ms`))
    }, deadlineMs)
    try {
      const answer = running.get(name) ?? check().finally(() => running.delete(name))
      running.set(name, answer)
      await Promise.race([answer, late])
      if (failed.delete(name)) log.info({ event: 'check.recovered', check: name })
    } catch (error) {
      const how =
        error instanceof CurfewError && error.code.endsWith('_DEGRADED') ? 'degraded' : 'unavailable'
      if (failed.get(name) !== how)
        log.warn({ event: how === 'degraded' ? 'check.degraded' : 'check.failed', check: name, err: error })
      failed.set(name, how)
    } finally {
      clearTimeout(timer)
    }
  }

  let passedMs = Number.NEGATIVE_INFINITY
  return async () => {
    const startedMs = performance.now()
    if (startedMs - passedMs < keptMs) return { unavailable: [], degraded: [] }
    await Promise.all(Object.entries(checks).map(([name, check]) => run(name, check)))
    if (failed.size === 0) passedMs = startedMs
    const namesOf = (how: keyof Readiness) => Object.keys(checks).filter((name) => failed.get(name) === how)
    return { unavailable: namesOf('unavailable'), degraded: namesOf('degraded') }
  }
}
