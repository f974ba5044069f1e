import {
  announceSettled,
  backfillCutoffs,
  type Database,
  dropCutoffReaders,
  dropExpiredCutoffs,
  endOffers,
} from '@curfew/ledger'
import type { Log, Metrics } from '@curfew/runtime'
import type { Job } from './repeat.ts'

const BATCH = 500
const EXPIRED_MAX = 10_000
const PAUSE_MS = 1_000
const EXPIRY_PAUSE_MS = 30_000

/** Creates the jobs that end what relying parties did not fetch in time, and that drop entries of cutoff feeds that cut off nothing. */
export function createOfferJobs({
  db,
  log,
  metrics,
}: {
  db: Database
  log: Log
  metrics: Metrics
}): readonly Job[] {
  const ended = metrics.counter(
    'offers_ended_total',
    'Deliveries that their relying party did not fetch in time.',
  )
  return [
    {
      name: 'offers',
      pauseMs: PAUSE_MS,
      failurePauseMs: PAUSE_MS,
      async round() {
        const ids = await endOffers(db, { limit: BATCH })
        if (ids.length === 0) return false
        ended.inc(ids.length)
        log.info({ event: 'offers.ended', deliveries: ids.length })
        await announceSettled(db, ids)
        return ids.length === BATCH
      },
    },
    {
      name: 'cutoff backfill',
      pauseMs: PAUSE_MS,
      failurePauseMs: PAUSE_MS,
      round: () => backfillCutoffs(db, { limit: BATCH }),
    },
    {
      name: 'cutoff expiry',
      pauseMs: EXPIRY_PAUSE_MS,
      failurePauseMs: EXPIRY_PAUSE_MS,
      async round() {
        const entries = await dropExpiredCutoffs(db, { limit: EXPIRED_MAX })
        const readers = await dropCutoffReaders(db, { limit: BATCH })
        return entries === EXPIRED_MAX || readers === BATCH
      },
    },
  ]
}
