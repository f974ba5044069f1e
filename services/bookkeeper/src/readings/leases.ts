import { type Database, oldestLeaseSeconds } from '@curfew/ledger'
import type { Metrics } from '@curfew/runtime'
import type { Job } from '../repeat.ts'
import { createReading } from './reading.ts'

/**
 * Creates the job that reports the age of the oldest lease. A worker gives back a waiting delivery after a minute, and an attempt
 * ends by its timeout. No worker attends to a much older lease.
 */
export function createLeaseJob({ db, metrics }: { db: Database; metrics: Metrics }): Job {
  const reading = createReading('leases', () => oldestLeaseSeconds(db))
  metrics.gauge('oldest_lease_seconds', 'Age of the oldest lease on deliveries.', () => reading.latest())
  return reading
}
