import type { ReplayBatch, ReplayJob } from '@curfew/ledger'
import type { Log } from '@curfew/runtime'

export interface ReplayDeps {
  readonly runningReplays: () => Promise<readonly ReplayJob[]>
  readonly takeBatch: (job: ReplayJob) => Promise<ReplayBatch>
  readonly log: Log
  /** Told how many deliveries were put back. */
  readonly onReplayed: (deliveries: number) => void
}

/**
 * One round of replaying: a batch of each job. Whether it is time for one, and whether another bookkeeper is at it, the
 * ledger says.
 */
export async function replayRound({ runningReplays, takeBatch, log, onReplayed }: ReplayDeps): Promise<void> {
  for (const job of await runningReplays()) {
    let batch: ReplayBatch
    try {
      batch = await takeBatch(job)
    } catch (error) {
      // Whatever is wrong with one, the others are not held up by it.
      log.warn({ event: 'replay.failed', replay_id: job.id, err: error })
      continue
    }
    if (batch === 'busy') continue
    if (batch.taken > 0) onReplayed(batch.taken)
    if (batch.state === 'done') log.info({ event: 'replay.done', replay_id: job.id, total: job.total })
  }
}
