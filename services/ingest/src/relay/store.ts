import { type LogRecord, RecordTooLargeError } from '@curfew/domain'
import { createThrottle, type Log, ProblemError, within } from '@curfew/runtime'
import type { Append } from '../append.ts'
import type { RelaySpool } from './spool.ts'
import type { Store } from './take.ts'

export interface StoreDeps {
  readonly append: Append
  /** Null: without the event log nothing is durable. */
  readonly spool: Pick<RelaySpool, 'put'> | null
  readonly log: Log
  readonly monotonicMs: () => number
  /** Longest wait for the event log before the spool is used, in milliseconds. Default 2,000: identity providers wait about 5 s. */
  readonly patienceMs?: number
}

/** How long the spool is used at once after the event log failed, in milliseconds. */
const AWAY_MS = 1_000

type Appended = 'appended' | 'too large' | 'failed'

/**
 * Creates a store that appends each record to the event log. If the log fails or is slow, the record goes to the spool. It may then
 * be in both, which is harmless: the same token is one logout.
 */
export function createStore({ append, spool, log, monotonicMs, patienceMs = 2_000 }: StoreDeps): Store {
  const isTime = createThrottle()
  let awayUntilMs = Number.NEGATIVE_INFINITY

  /** Never rejects. */
  async function tryAppend(record: LogRecord): Promise<Appended> {
    try {
      await append([record], 'logout token')
      return 'appended'
    } catch (error) {
      awayUntilMs = monotonicMs() + AWAY_MS
      if (isTime('append')) log.warn({ event: 'relay.append-failed', err: error })
      return error instanceof ProblemError && error.cause instanceof RecordTooLargeError
        ? 'too large'
        : 'failed'
    }
  }

  async function toSpool(record: LogRecord, to: Pick<RelaySpool, 'put'>): Promise<boolean> {
    try {
      await to.put(record)
      return true
    } catch (error) {
      if (isTime('spool')) log.error({ event: 'relay.spool-failed', err: error })
      return false
    }
  }

  return async (record) => {
    if (spool === null) return (await tryAppend(record)) === 'appended' ? 'appended' : 'unavailable'
    const isAway = monotonicMs() < awayUntilMs
    const early = isAway ? 'failed' : await within(tryAppend(record), patienceMs, 'late')
    if (early === 'appended') return 'appended'
    if (early === 'too large') return 'unavailable'
    if (early === 'late') awayUntilMs = monotonicMs() + AWAY_MS
    if (await toSpool(record, spool)) return 'spooled'
    // A full spool must not refuse tokens that the event log would take.
    const last = isAway ? await within(tryAppend(record), patienceMs, 'late') : early
    return last === 'appended' ? 'appended' : 'unavailable'
  }
}
