import { type Database, oldestLeaseSeconds } from '@curfew/ledger'
import type { Metrics } from '@curfew/runtime'
import type { Job } from './repeat.ts'

const PAUSE_MS = 15_000

/**
 * Creates the job that reports the age of the oldest lease. A worker gives back a waiting delivery after a minute, and an attempt
 * ends by its timeout. No worker attends to a much older lease.
 */
export function createLeaseJob({ db, metrics }: { db: Database; metrics: Metrics }): Job {
  let age = 0
  metrics.gauge('oldest_lease_seconds', 'Age of the oldest lease on deliveries.', () => age)
  return {
    name: 'leases',
    pauseMs: PAUSE_MS,
    failurePauseMs: PAUSE_MS,
    async round() {
      age = await oldestLeaseSeconds(db)
      return false
    },
  }
}
