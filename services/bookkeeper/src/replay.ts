import type { ReplayBatch, ReplayJob } from '@curfew/ledger'
import type { Log } from '@curfew/runtime'
import type { JobGuard } from './job-guard.ts'

export interface ReplayDeps {
  readonly runningReplays: () => Promise<readonly ReplayJob[]>
  readonly takeBatch: (job: ReplayJob) => Promise<ReplayBatch>
  /** Ends a job that cannot go on. */
  readonly fail: (request: { id: string; failure: string }) => Promise<void>
  readonly guard: JobGuard
  readonly log: Log
  /** Told how many deliveries were put back. */
  readonly onReplayed: (deliveries: number) => void
}

/**
 * One round of replaying: a batch of each job. Whether it is time for one, and whether another bookkeeper is at it, the
 * ledger says.
 */
export async function replayRound({
  runningReplays,
  takeBatch,
  fail,
  guard,
  log,
  onReplayed,
}: ReplayDeps): Promise<void> {
  for (const job of await runningReplays()) {
    const { id, done, refused } = job
    if (!guard.isDue(id)) continue
    let batch: ReplayBatch
    try {
      batch = await takeBatch(job)
    } catch (error) {
      // Whatever is wrong with one, the others are not held up by it.
      const place = `${done} ${refused}`
      await guard.failed({ id, place, end: (failure) => fail({ id, failure }) }, error)
      continue
    }
    guard.succeeded(id)
    if (batch === 'busy') continue
    if (batch.taken > 0) onReplayed(batch.taken)
    if (batch.state === 'done') log.info({ event: 'replay.done', replay_id: id, total: job.total })
    if (batch.state === 'failed') log.error({ event: 'replay.ended-as-failed', replay_id: id })
  }
}
