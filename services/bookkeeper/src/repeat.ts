import { type Log, sleep } from '@curfew/runtime'

export interface Job {
  /** For the log, as a noun. */
  readonly name: string
  /** Between the end of one round and the next, in milliseconds. Asked for after each. */
  readonly pauseMs: number
  /** After a round that failed, in milliseconds. */
  readonly failurePauseMs: number
  /** @returns true when there is more to do at once. */
  round(): Promise<boolean>
}

/** Does a chore again and again until `stopping` aborts; the round that is under way is ended first. What fails is tried again. */
export async function repeatUntil(stopping: AbortSignal, job: Job, log: Log): Promise<void> {
  while (!stopping.aborted) {
    try {
      if (!(await job.round())) await sleep(job.pauseMs, stopping)
    } catch (error) {
      log.warn({ event: `${job.name}.failed`, err: error })
      await sleep(job.failurePauseMs, stopping)
    }
  }
}
