import { type Database, failReplay, type ReplayBatch, runningReplays, takeReplayBatch } from '@curfew/ledger'
import type { Log, Metrics } from '@curfew/runtime'
import { createJobGuard } from './job-guard.ts'
import type { Job } from './repeat.ts'

/** Deliveries that a job puts back at once, and the least time between, in milliseconds: 1,000 a second, so that logouts of now get in between. */
const BATCH = 200
const PAUSE_MS = 200
const FAILURE_PAUSE_MS = 1_000

/**
 * Replays dead letters: a batch of each job in a round. Whether it is time for one, and whether another bookkeeper is at it, the
 * ledger says.
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
          // Whatever is wrong with one, the others are not held up by it.
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
