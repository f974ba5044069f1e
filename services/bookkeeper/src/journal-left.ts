import { countJournalLeft, type Database } from '@curfew/ledger'
import type { Metrics } from '@curfew/runtime'
import type { Job } from './repeat.ts'

const PAUSE_MS = 15_000

/**
 * Counts the journal entries that a projector failed at. Until they are projected, a receipt, an orphaned session or a figure of the
 * SLA may be missing.
 */
export function createJournalLeftJob({ db, metrics }: { db: Database; metrics: Metrics }): Job {
  let left: ReadonlyMap<string, number> = new Map()
  metrics.gauges(
    'journal_left_entries',
    'Journal entries that a projector failed at. They are tried again; the log says why.',
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
