import { CurfewError, endsAsFailed, type JobFault, retryPauseMs } from '@curfew/domain'
import { isDataFault } from '@curfew/ledger'
import { createSeldom, type Log } from '@curfew/runtime'

/** Jobs that fail, and what becomes of each: no other job waits for it, and it does not fail for ever. */
export interface JobGuard {
  /** Whether it is time to try a job. Between two tries that failed it is not. */
  isDue(id: string): boolean
  /** To be called after a try that did not fail. */
  succeeded(id: string): void
  /**
   * To be called after a try that failed. Logs it, once a minute at most. Where the job fails at the same place again and again,
   * ends it by `end`, with the reason in words.
   *
   * @param place how far the job is. The count begins again where it gets further, or fails for another kind of reason.
   */
  failed(
    job: { readonly id: string; readonly place: string; end(failure: string): Promise<unknown> },
    error: unknown,
  ): Promise<void>
}

export interface JobGuardDeps {
  readonly log: Log
  /** What fails, for the log: `replay` logs `replay.failed`. */
  readonly name: string
  /** Member of the log line that the job's id is in. */
  readonly idMember: string
  /** Time that only goes forward, in milliseconds. */
  readonly monotonicMs: () => number
}

interface Failing {
  readonly place: string
  readonly fault: JobFault
  readonly sinceMs: number
  tries: number
  triedMs: number
}

export function createJobGuard({ log, name, idMember, monotonicMs }: JobGuardDeps): JobGuard {
  const failing = new Map<string, Failing>()
  const isTimeToLog = createSeldom({ monotonicMs })
  return {
    isDue(id) {
      const known = failing.get(id)
      return known === undefined || monotonicMs() - known.triedMs >= retryPauseMs(known)
    },
    succeeded: (id) => void failing.delete(id),
    async failed({ id, place, end }, error) {
      const nowMs = monotonicMs()
      const before = failing.get(id)
      const fault = faultOf(error)
      const known: Failing =
        before?.place === place && before.fault === fault
          ? before
          : { place, fault, sinceMs: nowMs, tries: 0, triedMs: nowMs }
      failing.set(id, known)
      known.tries += 1
      known.triedMs = nowMs
      const stuck = { fault, tries: known.tries, forMs: nowMs - known.sinceMs }
      const line = { [idMember]: id, tries: stuck.tries, err: error }
      if (endsAsFailed(stuck) && (await ended(() => end(inWords(error, stuck))))) {
        failing.delete(id)
        log.error({ event: `${name}.ended-as-failed`, ...line })
      } else if (isTimeToLog(id)) {
        log.warn({ event: `${name}.failed`, ...line })
      }
    },
  }

  /** Whether that was written. If not, it is tried again after the next failure: no other job waits for it. */
  async function ended(end: () => Promise<unknown>): Promise<boolean> {
    try {
      await end()
      return true
    } catch (error) {
      log.warn({ event: `${name}.not-ended`, err: error })
      return false
    }
  }
}

function faultOf(error: unknown): JobFault {
  if (isDataFault(error)) return 'data'
  // Errors of ours are of what is unavailable, or of a key that a person has to mend.
  return error instanceof CurfewError ? 'passing' : 'other'
}

/** Without the error's message: it may repeat a value of the ledger, such as a subject. The log has it. */
function inWords(
  error: unknown,
  { fault, tries, forMs }: { fault: JobFault; tries: number; forMs: number },
): string {
  const code = error instanceof Error && 'code' in error ? ` (${String(error.code)})` : ''
  const what = fault === 'data' ? `the ledger refused a value${code}` : `it failed${code}`
  return `${what} at the same place ${tries} times within ${Math.ceil(forMs / 60_000)} min; the log of the bookkeeper has the error`
}
