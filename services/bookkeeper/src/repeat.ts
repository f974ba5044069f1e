import { type Log, sleep } from '@curfew/runtime'

export interface Job {
  /** The name in the log, a noun. */
  readonly name: string
  /** The pause after a round, in milliseconds. Read after every round. */
  readonly pauseMs: number
  /** The pause after a failed round, in milliseconds. */
  readonly failurePauseMs: number
  /** @returns true if more can be done at once. */
  round(): Promise<boolean>
}

/** Repeats a job until `stopping` aborts, and completes the running round first. A failed round is repeated. */
export async function repeatUntil(stopping: AbortSignal, job: Job, log: Log): Promise<void> {
  while (!stopping.aborted) {
    try {
      if (!(await job.round())) await sleep(job.pauseMs, stopping)
    } catch (error) {
      log.warn({ event: 'job.failed', job: job.name, err: error })
      await sleep(job.failurePauseMs, stopping)
    }
  }
}
