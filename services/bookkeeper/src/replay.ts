import { type Database, failReplay, type ReplayBatch, runningReplays, takeReplayBatch } from '@curfew/ledger'
import type { Log, Metrics } from '@curfew/runtime'
import { createJobGuard } from './job-guard.ts'
import type { Job } from './repeat.ts'

/**
 * Deliveries that a replay puts back at once, and the minimum time between two batches in milliseconds. At 1,000 deliveries a
 * second, current logouts still get through.
 */
const BATCH = 200
const PAUSE_MS = 200
const FAILURE_PAUSE_MS = 1_000

/**
 * Creates the job that replays dead letters, one batch of every replay per round. The ledger decides whether a batch is due, and
 * keeps other bookkeepers from taking it too.
 */
export function createReplayJob({
  db,
  log,
  metrics,
}: {
  db: Database
  log: Log
  metrics: Pick<Metrics, 'counter'>
}): Job {
  const replayed = metrics.counter('deliveries_replayed_total', 'Dead letters put back by replays.')
  const guard = createJobGuard({
    ...{ log, name: 'replay', idMember: 'replay_id' },
    monotonicMs: () => performance.now(),
  })
  return {
    name: 'replays',
    pauseMs: PAUSE_MS,
    failurePauseMs: FAILURE_PAUSE_MS,
    async round() {
      for (const job of await runningReplays(db)) {
        const { id, done, refused } = job
        if (!guard.isDue(id)) continue
        let batch: ReplayBatch
        try {
          batch = await takeReplayBatch(db, { job, limit: BATCH, pauseMs: PAUSE_MS })
        } catch (error) {
          // A failure of one replay does not block the others.
          const end = (failure: string) => failReplay(db, { id, failure })
          await guard.failed({ id, place: `${done} ${refused}`, end }, error)
          continue
        }
        guard.succeeded(id)
        if (batch === 'busy') continue
        if (batch.taken > 0) replayed.inc(batch.taken)
        if (batch.state === 'done') log.info({ event: 'replay.done', replay_id: id, total: job.total })
        if (batch.state === 'failed') log.error({ event: 'replay.ended-as-failed', replay_id: id })
      }
      return false
    },
  }
}
