import type { EventLog } from '@curfew/domain'
import { countQuarantined, type Database, noticeQuarantined, takeRequeues } from '@curfew/ledger'
import type { Log, Metrics } from '@curfew/runtime'
import { createReading } from './readings/reading.ts'
import type { Job } from './repeat.ts'

export interface QuarantineJobsDeps {
  readonly db: Database
  /** The event log that receives requeued records. */
  readonly eventLog: Pick<EventLog, 'append'>
  readonly log: Log
  readonly metrics: Metrics
  /** The time that a notification of quarantined records waits for more of them, in milliseconds. */
  readonly windowMs: number
}

const NOTICE_BATCH = 1_000
/** Records appended together, of at most 64 KiB each. */
const REQUEUE_BATCH = 100
const PAUSE_MS = 1_000
const FAILURE_PAUSE_MS = 5_000

/** Creates the jobs that notify operators of quarantined records, count them, and append requeued records again. */
export function createQuarantineJobs(deps: QuarantineJobsDeps): readonly Job[] {
  const { db, eventLog, log, metrics, windowMs } = deps
  const job = (name: string, pauseMs: number, round: Job['round']): Job => ({
    name,
    pauseMs,
    failurePauseMs: FAILURE_PAUSE_MS,
    round,
  })
  const waiting = createReading('count of quarantined records', () => countQuarantined(db))
  metrics.gauges(
    'quarantined_records',
    'Quarantined records without a decision. Each is an accepted logout or session change without effect so far.',
    ['lane'],
    () => [...(waiting.latest() ?? [])].map(([lane, value]) => ({ labels: { lane }, value })),
  )
  const quarantined = metrics.counter('records_quarantined_total', 'Records that were quarantined.', ['lane'])
  const requeues = metrics.counter('records_requeued_total', 'Quarantined records that were appended again.')
  return [
    job('quarantine notices', PAUSE_MS, async () => {
      const noticed = await noticeQuarantined(db, { limit: NOTICE_BATCH, windowMs })
      for (const [lane, records] of noticed) {
        quarantined.inc({ lane }, records)
        log.error({ event: 'records.quarantined', lane, records })
      }
      return [...noticed.values()].reduce((sum, records) => sum + records, 0) === NOTICE_BATCH
    }),
    job('requeues', PAUSE_MS, async () => {
      const { requeued, refused, unavailable } = await takeRequeues(db, {
        limit: REQUEUE_BATCH,
        append: (records) => eventLog.append(records),
      })
      if (requeued.length > 0) {
        requeues.inc(requeued.length)
        log.info({ event: 'records.requeued', records: requeued })
      }
      if (refused.length > 0) log.error({ event: 'requeues.refused', records: refused })
      if (unavailable.length > 0) log.warn({ event: 'requeues.postponed', records: unavailable })
      return requeued.length === REQUEUE_BATCH
    }),
    waiting,
  ]
}
