import { hash } from 'node:crypto'
import { encodeLogoutEvent } from '@curfew/contract'
import { childOf, type Digest, type EventId, type EventLog } from '@curfew/domain'
import type { HandOver, IssuerLogoutJob, TakenSubjects } from '@curfew/ledger'
import { type Log, newTraceparent } from '@curfew/runtime'
import type { JobGuard } from './job-guard.ts'

export interface IssuerLogoutDeps {
  readonly running: () => Promise<readonly IssuerLogoutJob[]>
  readonly takeSubjects: (job: IssuerLogoutJob) => Promise<TakenSubjects>
  readonly takeLateSubjects: () => Promise<number>
  /** Ends a job that cannot go on. */
  readonly fail: (request: { id: EventId; failure: string }) => Promise<void>
  readonly guard: JobGuard
  /** Wakes those who wait for a logout of everyone to be done. */
  readonly announce: (id: EventId) => Promise<void>
  readonly log: Log
  /** Told for how many subjects a logout was made. */
  readonly onSubjects: (subjects: number) => void
}

/** Stands for the subjects that were late, of all jobs. */
const LATE = 'late subjects'

/**
 * One round of logouts of everyone: those who were late, and a page of each job. Whether it is time for one, and whether another
 * bookkeeper is at it, the ledger says.
 */
export async function issuerLogoutRound({
  running,
  takeSubjects,
  takeLateSubjects,
  fail,
  guard,
  announce,
  log,
  onSubjects,
}: IssuerLogoutDeps): Promise<void> {
  if (guard.isDue(LATE)) {
    try {
      onSubjects(await takeLateSubjects())
      guard.succeeded(LATE)
    } catch (error) {
      // They wait. The jobs go on.
      await guard.failed({ id: LATE, place: '', end: async () => undefined }, error)
    }
  }
  for (const job of await running()) {
    const { id } = job.event
    if (!guard.isDue(id)) continue
    let taken: TakenSubjects
    try {
      taken = await takeSubjects(job)
    } catch (error) {
      // Whatever is wrong with one, the others are not held up by it.
      const end = async (failure: string) => {
        await fail({ id, failure })
        await announce(id)
      }
      await guard.failed({ id, place: `${job.taken}`, end }, error)
      continue
    }
    guard.succeeded(id)
    if (taken === 'busy' || taken === 'waiting') continue
    if (taken.subjects > 0) onSubjects(taken.subjects)
    if (taken.state !== 'done') continue
    const { unplanned } = taken
    const { givenId, iss } = job.event
    log[unplanned === 0 ? 'info' : 'warn']({
      ...{ event: 'issuer-logout.done', event_id: givenId, iss, unplanned },
    })
    await announce(id)
  }
}

const digest: Digest = (text) => hash('sha256', text)

/** Hands subjects over to planning, on the way that every logout takes: an event for each, in the event log. */
export function toEventLog(eventLog: EventLog, now: () => Date): HandOver {
  return async ({ event, salt, traceparent }, subjects) => {
    const acceptedAt = now()
    await eventLog.append(
      subjects.map((sub) =>
        encodeLogoutEvent(childOf(event, sub, { acceptedAt, salt, digest }), traceparent ?? newTraceparent()),
      ),
    )
  }
}
