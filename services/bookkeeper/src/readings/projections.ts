import { type Database, readProjectionLag } from '@curfew/ledger'
import type { Metrics } from '@curfew/runtime'
import type { Job } from '../repeat.ts'
import { createReading } from './reading.ts'

/**
 * Creates the job that reports how late the projectors of the journal are, and the entries at which one failed. A receipt, an
 * orphaned session or an SLA figure may be missing until they are projected.
 *
 * @param projectors the names of all projectors.
 */
export function createProjectionJob({
  db,
  metrics,
  projectors,
}: {
  db: Database
  metrics: Metrics
  projectors: readonly string[]
}): Job {
  const reading = createReading('projection lag', () => readProjectionLag(db))
  metrics.gauges(
    'journal_left_entries',
    'Journal entries at which a projector failed. They are tried again; the log has the reason.',
    ['projector'],
    () =>
      [...(reading.latest()?.left ?? [])].map(([projector, { entries }]) => ({
        labels: { projector },
        value: entries,
      })),
  )
  metrics.gauges(
    'projection_lag_seconds',
    'Age of the oldest journal entry that the projector has not taken in. 0 if there is none.',
    ['projector'],
    () => {
      const lag = reading.latest()
      if (lag === null) return []
      return projectors.map((projector) => ({
        labels: { projector },
        value: Math.max(lag.journalSeconds, lag.left.get(projector)?.oldestSeconds ?? 0),
      }))
    },
  )
  metrics.gauge(
    'checkpoint_age_seconds',
    'How long the oldest settled event has waited for a receipt in the log that checkpoints sign. 0 if none waits.',
    () => reading.latest()?.unreceiptedSeconds ?? null,
  )
  return reading
}
