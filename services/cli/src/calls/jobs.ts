import { createInterface } from 'node:readline/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { createProgress } from '../terminal/progress.ts'
import { plain } from '../terminal/table.ts'
import { answered, CallFailed } from './connect.ts'

// Functions for commands that start a job and follow it. They ask for confirmation before, and a person may leave while the job
// runs.

const POLL_MS = 300
/** Time to follow the deliveries of a finished job, in milliseconds. Most settle at once, the rest by their retry schedule. */
const SETTLE_MS = 5_000
/** Number of consecutive polls that may fail. */
const FAILURES_MAX = 60

/** Asks the person at the terminal. @returns whether the answer is yes. */
export async function agreed(question: string): Promise<boolean> {
  return /^y(es)?$/.test(await answerTo(`${question} [y/N]`))
}

/** Asks the person at the terminal. @returns the answer in lower case; empty after Ctrl-C and at the end of the input. */
export async function answerTo(question: string): Promise<string> {
  const terminal = createInterface({ input: process.stdin, output: process.stderr })
  const { promise: left, resolve: leave } = Promise.withResolvers<string>()
  terminal.on('SIGINT', () => leave('\n')).on('close', () => leave(''))
  try {
    const answer = await Promise.race([terminal.question(`${question} `), left])
    if (answer === '\n') process.stderr.write(answer)
    return answer.trim().toLowerCase()
  } finally {
    terminal.close()
  }
}

/** The reason of a failed job as a line; empty if it did not fail. */
export function whyFailed({ failure }: { readonly failure: string | null }): string {
  return failure === null ? '' : `It failed: ${plain(failure)}.\n`
}

/** The progress of a job. */
export interface JobProgress {
  readonly running: boolean
  readonly done: number
  readonly total: number
  /** Number of unsettled deliveries of the job. */
  readonly waiting: number
  readonly note: string
}

/**
 * Shows the progress of a job until it ends. Then shows for a few seconds how its deliveries settle.
 *
 * @param leaveText the text after Ctrl-C.
 * @returns the job; null after Ctrl-C.
 */
export async function watchJob<Job>(
  get: () => Promise<Job>,
  { progressOf, leaveText }: { progressOf: (job: Job) => JobProgress; leaveText: string },
): Promise<Job | null> {
  const leave = new AbortController()
  const onInterrupt = () => leave.abort()
  process.on('SIGINT', onInterrupt)
  const progress = createProgress(process.stderr)
  try {
    let endedAtMs: number | null = null
    for (;;) {
      const job = await poll(get, leave.signal)
      if (job === null) {
        progress.end()
        process.stderr.write(leaveText)
        return null
      }
      const { running, done, total, waiting, note } = progressOf(job)
      progress.show(done, total, note)
      if (!running) endedAtMs ??= performance.now()
      if (endedAtMs !== null && (waiting === 0 || performance.now() - endedAtMs > SETTLE_MS)) {
        progress.end()
        return job
      }
      await sleep(POLL_MS, undefined, { signal: leave.signal }).catch(() => undefined)
    }
  } finally {
    process.off('SIGINT', onInterrupt)
  }
}

/** Fetches the job; null if the person leaves. Temporary failures are retried. */
async function poll<Job>(get: () => Promise<Job>, leave: AbortSignal): Promise<Job | null> {
  for (let failures = 1; ; failures++) {
    if (leave.aborted) return null
    try {
      return await answered(get())
    } catch (error) {
      if (!(error instanceof CallFailed && error.passing) || failures >= FAILURES_MAX) throw error
    }
    await sleep(POLL_MS * 3, undefined, { signal: leave }).catch(() => undefined)
  }
}
