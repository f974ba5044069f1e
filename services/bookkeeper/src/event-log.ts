import { type Database, eventLogAges } from '@curfew/ledger'
import type { Metrics } from '@curfew/runtime'
import type { Chore } from './repeat.ts'

const PAUSE_MS = 15_000

/** Says how far behind the workers are with what was accepted: nothing else knows of that before it is planned. */
export function createEventLogChore({ db, metrics }: { db: Database; metrics: Metrics }): Chore {
  let ages: ReadonlyMap<string, number> = new Map()
  metrics.gauges(
    'event_log_oldest_seconds',
    'How long the oldest record in the event log of PostgreSQL has waited to be planned or applied.',
    ['lane'],
    () => [...ages].map(([lane, value]) => ({ labels: { lane }, value })),
  )
  return {
    name: 'event log',
    pauseMs: PAUSE_MS,
    failurePauseMs: PAUSE_MS,
    async round() {
      ages = await eventLogAges(db)
      return false
    },
  }
}
