import { CurfewError } from '@curfew/domain'
import { createThrottle, type Log, sleep } from '@curfew/runtime'

/** The pause between two checks of the database and the keys at the start, in milliseconds. */
const PAUSE_MS = 1_000

/**
 * Repeats `work` until it succeeds. The service may start before its database, or with a wrong master key that an operator must
 * correct. Each cause is logged once a minute, in one line without a stack.
 */
export async function untilAble(
  work: () => Promise<void>,
  { log, stopping, pauseMs = PAUSE_MS }: { log: Log; stopping: AbortSignal; pauseMs?: number },
): Promise<void> {
  const isTime = createThrottle()
  while (!stopping.aborted) {
    try {
      return await work()
    } catch (error) {
      if (!(error instanceof CurfewError)) throw error
      const { code, message } = error
      if (code === 'ERR_LEDGER_SCHEMA') log.error({ event: 'ledger.not-migrated', err: error })
      else if (code === 'ERR_LEDGER_UNAVAILABLE') {
        if (isTime(code)) log.warn({ event: 'ledger.unavailable', code, reason: message })
      } else if (code === 'ERR_SIGNING_KEY') {
        if (isTime(code)) log.error({ event: 'master-key.wrong', code, reason: message })
      } else throw error
      await sleep(pauseMs, stopping)
    }
  }
}
