import { CurfewError, endsAsFailed, type JobFault, retryPauseMs } from '@curfew/domain'
import { isDataFault } from '@curfew/ledger'
import { createThrottle, type Log } from '@curfew/runtime'

/** Tracks failing jobs. A failing job does not delay the others, and does not fail forever. */
export interface JobGuard {
  /** Whether to try a job now. False during the pause after a failed try. */
  isDue(id: string): boolean
  /** Call this after a successful try. */
  succeeded(id: string): void
  /**
   * Call this after a failed try. Logs the failure, at most once a minute. Calls `end` with the reason when the job keeps failing
   * at the same place.
   *
   * @param place the progress of the job. The count starts again when it changes, or when the kind of failure changes.
   */
  failed(
    job: { readonly id: string; readonly place: string; end(failure: string): Promise<unknown> },
    error: unknown,
  ): Promise<void>
}

export interface JobGuardDeps {
  readonly log: Log
  /** The prefix of the log events: `replay` logs `replay.failed`. */
  readonly name: string
  /** The member of a log line that contains the job's id. */
  readonly idMember: string
  /** Monotonic time in milliseconds. */
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
  const isTimeToLog = createThrottle({ monotonicMs })
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

  /** Calls `end`. @returns whether it succeeded. If not, it is called again after the next failure. */
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
  // A CurfewError means that something is unavailable, or that a person must correct a key.
  return error instanceof CurfewError ? 'passing' : 'other'
}

/**
 * Describes a failure without the error's message, which may contain a value of the ledger such as a subject. The log has the
 * message.
 */
function inWords(
  error: unknown,
  { fault, tries, forMs }: { fault: JobFault; tries: number; forMs: number },
): string {
  const code = error instanceof Error && 'code' in error ? ` (${String(error.code)})` : ''
  const what = fault === 'data' ? `the ledger refused a value${code}` : `the job failed${code}`
  return `${what} at the same place ${tries} times within ${Math.ceil(forMs / 60_000)} min; see the log of the bookkeeper`
}
