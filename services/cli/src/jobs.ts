import { createInterface } from 'node:readline/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { answered, CallFailed } from './connect.ts'
import { createProgress } from './progress.ts'
import { plain } from './table.ts'

// What the commands have in common that begin a job, and watch it: a person is asked before, and may leave it to itself.

const POLL_MS = 300
/** How long what a job has begun is watched, in milliseconds: most is settled at once, the rest by its schedule. */
const SETTLE_MS = 5_000
/** Polls in a row that may fail. */
const FAILURES_MAX = 60

/** Whether the person at the terminal says yes. */
export async function agreed(question: string): Promise<boolean> {
  const terminal = createInterface({ input: process.stdin, output: process.stderr })
  // Ctrl-C and the end of the input are answers, too.
  const { promise: left, resolve: leave } = Promise.withResolvers<string>()
  terminal.on('SIGINT', () => leave('\n')).on('close', () => leave(''))
  try {
    const answer = await Promise.race([terminal.question(`${question} [y/N] `), left])
    if (answer === '\n') process.stderr.write(answer)
    return /^y(es)?$/i.test(answer.trim())
  } finally {
    terminal.close()
  }
}

/** Why a job failed, as a line; nothing where it did not. */
export function whyFailed({ failure }: { readonly failure: string | null }): string {
  return failure === null ? '' : `It failed: ${plain(failure)}.\n`
}

/** How far a job is. */
export interface JobProgress {
  readonly running: boolean
  readonly done: number
  readonly total: number
  /** Begun, and not settled yet. */
  readonly waiting: number
  readonly note: string
}

/**
 * Shows how a job gets on until it has ended and, for a moment, how what it began is settled.
 *
 * @param goesOn what is said to a person who leaves.
 * @returns the job, or null where the person left.
 */
export async function watchJob<Job>(
  get: () => Promise<Job>,
  { progressOf, goesOn }: { progressOf: (job: Job) => JobProgress; goesOn: string },
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
        process.stderr.write(goesOn)
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

/** The job, or null when we are to leave. What passes by itself is waited out. */
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
