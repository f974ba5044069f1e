import { hash } from 'node:crypto'
import { encodeLogoutEvent } from '@curfew/contract'
import { childOf, type Digest, type EventLog } from '@curfew/domain'
import {
  announceSettled,
  type Database,
  failIssuerLogout,
  type HandOver,
  type IssuerLogoutJob,
  runningIssuerLogouts,
  type TakenSubjects,
  takeLateSubjects,
  takeSubjects,
} from '@curfew/ledger'
import { type Log, type Metrics, newTraceparent } from '@curfew/runtime'
import { createJobGuard } from './job-guard.ts'
import type { Job } from './repeat.ts'

/**
 * Sessions that are looked at in a page, the least time between two pages in milliseconds, and how many subjects may wait to be
 * planned. How fast these are planned the workers decide, who let people's own logouts go first.
 */
const BATCH = 1_000
const PACE = { limit: BATCH, pauseMs: 200, unplannedMax: 2_000, patienceMs: 60_000 }
const FAILURE_PAUSE_MS = 1_000
/** Stands for the subjects that were late, of all jobs. */
const LATE = 'late subjects'

export interface IssuerLogoutDeps {
  readonly db: Database
  /** Hands subjects over to planning. */
  readonly handOver: HandOver
  readonly log: Log
  readonly metrics: Pick<Metrics, 'counter'>
  /** Time that only goes forward, in milliseconds. Default: this process's. */
  readonly monotonicMs?: () => number
}

/**
 * Carries on logouts of everyone: those who were late, and a page of each job in a round. Whether it is time for one, and whether
 * another bookkeeper is at it, the ledger says.
 */
export function createIssuerLogoutJob({
  db,
  handOver,
  log,
  metrics,
  monotonicMs = () => performance.now(),
}: IssuerLogoutDeps): Job {
  const subjects = metrics.counter(
    'issuer_logout_subjects_total',
    'Subjects for whom logouts of everyone made a logout.',
  )
  const guard = createJobGuard({ ...{ log, name: 'issuer-logout', idMember: 'event_id' }, monotonicMs })

  async function takeLate(): Promise<void> {
    if (!guard.isDue(LATE)) return
    try {
      subjects.inc(await takeLateSubjects(db, { limit: BATCH, handOver }))
      guard.succeeded(LATE)
    } catch (error) {
      // They wait. The jobs go on.
      await guard.failed({ id: LATE, place: '', end: async () => undefined }, error)
    }
  }

  async function takePage(job: IssuerLogoutJob): Promise<void> {
    const { id, givenId, iss } = job.event
    if (!guard.isDue(id)) return
    let taken: TakenSubjects
    try {
      taken = await takeSubjects(db, job, { ...PACE, handOver })
    } catch (error) {
      // Whatever is wrong with one, the others are not held up by it.
      const end = async (failure: string) => {
        await failIssuerLogout(db, { id, failure })
        await announceSettled(db, [id])
      }
      await guard.failed({ id, place: `${job.taken}`, end }, error)
      return
    }
    guard.succeeded(id)
    if (taken === 'busy' || taken === 'waiting') return
    if (taken.subjects > 0) subjects.inc(taken.subjects)
    if (taken.state !== 'done') return
    const { unplanned } = taken
    const line = { event: 'issuer-logout.done', event_id: givenId, iss, unplanned }
    log[unplanned === 0 ? 'info' : 'warn'](line)
    await announceSettled(db, [id])
  }

  return {
    name: 'issuer-logouts',
    pauseMs: PACE.pauseMs,
    failurePauseMs: FAILURE_PAUSE_MS,
    async round() {
      await takeLate()
      for (const job of await runningIssuerLogouts(db)) await takePage(job)
      return false
    },
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
