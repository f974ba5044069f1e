import { countJournalLeft, type Database } from '@curfew/ledger'
import type { Metrics } from '@curfew/runtime'
import type { Job } from './repeat.ts'

const PAUSE_MS = 15_000

/**
 * Creates the job that counts the journal entries at which a projector failed. A receipt, an orphaned session or an SLA figure
 * may be missing until they are projected.
 */
export function createJournalLeftJob({ db, metrics }: { db: Database; metrics: Metrics }): Job {
  let left: ReadonlyMap<string, number> = new Map()
  metrics.gauges(
    'journal_left_entries',
    'Journal entries at which a projector failed. They are tried again; the log has the reason.',
    ['projector'],
    () => [...left].map(([projector, value]) => ({ labels: { projector }, value })),
  )
  return {
    name: 'count of what is left of the journal',
    pauseMs: PAUSE_MS,
    failurePauseMs: PAUSE_MS,
    async round() {
      left = await countJournalLeft(db)
      return false
    },
  }
}
