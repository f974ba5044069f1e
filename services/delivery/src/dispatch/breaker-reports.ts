import type { BindingId } from '@curfew/domain'
import type { DeliveryLedger } from '@curfew/ledger'
import { type Log, sleep } from '@curfew/runtime'
import type { Worker } from '../worker/worker.ts'

export interface BreakerReportsDeps {
  readonly ledger: Pick<DeliveryLedger, 'noteBreakers'>
  readonly worker: Pick<Worker, 'id'>
  readonly log: Log
  /** Aborts when nothing more must be reported. */
  readonly ended: AbortSignal
}

/**
 * Reports to the ledger which bindings have an open breaker. No caller waits for a report, and a failed one fails nothing else.
 */
export interface BreakerReports {
  note(id: BindingId, state: 'opened' | 'closed'): void
}

const PAUSE_MS = 1_000

/**
 * Keeps the last state of every binding until the ledger has it, so at most one report per binding waits. Sends one statement at
 * a time, with all reports that arrived during the last one.
 */
export function createBreakerReports({ ledger, worker, log, ended }: BreakerReportsDeps): BreakerReports {
  const waiting = new Map<BindingId, 'opened' | 'closed'>()
  let writing = false

  async function write(): Promise<void> {
    writing = true
    while (waiting.size > 0 && !ended.aborted) {
      const batch = [...waiting]
      waiting.clear()
      const of = (wanted: 'opened' | 'closed') =>
        batch.filter(([, state]) => state === wanted).map(([id]) => id)
      try {
        await ledger.noteBreakers({ workerId: worker.id(), opened: of('opened'), closed: of('closed') })
      } catch (error) {
        log.warn({ event: 'breakers.note-failed', bindings: batch.length, err: error })
        for (const [id, state] of batch) if (!waiting.has(id)) waiting.set(id, state)
        await sleep(PAUSE_MS, ended)
      }
    }
    writing = false
  }

  return {
    note(id, state) {
      waiting.set(id, state)
      if (!writing) void write()
    },
  }
}
