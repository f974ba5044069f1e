import { type Database, oldestLeaseSeconds } from '@curfew/ledger'
import type { Metrics } from '@curfew/runtime'
import type { Job } from './repeat.ts'

const PAUSE_MS = 15_000

/**
 * Reports the age of the oldest lease. A worker gives back a delivery that waits for a minute, and an attempt ends by its timeout:
 * a lease that is much older is one that no worker attends to.
 */
export function createLeaseJob({ db, metrics }: { db: Database; metrics: Metrics }): Job {
  let age = 0
  metrics.gauge('oldest_lease_seconds', 'How long the oldest lease on deliveries has been held.', () => age)
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
