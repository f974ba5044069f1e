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
import type { Log, Metrics } from '@curfew/runtime'
import { send } from '@curfew/wiring'
import { createJobGuard } from './job-guard.ts'
import type { Job } from './repeat.ts'

/**
 * The sessions read in a page, the minimum time between two pages in milliseconds, and the most subjects that may wait to be
 * planned. The workers decide how fast subjects are planned, and plan interactive logouts first.
 */
const BATCH = 1_000
const PACE = { limit: BATCH, pauseMs: 200, unplannedMax: 2_000, patienceMs: 60_000 }
const FAILURE_PAUSE_MS = 1_000
/** The key of the late subjects of all jobs in the guard. */
const LATE = 'late subjects'

export interface IssuerLogoutDeps {
  readonly db: Database
  /** Hands subjects over to planning. */
  readonly handOver: HandOver
  readonly log: Log
  readonly metrics: Pick<Metrics, 'counter'>
  /** Monotonic time in milliseconds. Default: `performance.now`. */
  readonly monotonicMs?: () => number
}

/**
 * Creates the job that continues issuer logouts. A round takes the late subjects, and one page of every issuer logout. The ledger
 * decides whether a page is due, and keeps other bookkeepers from taking it too.
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
    'Subjects for which issuer logouts created a logout event.',
  )
  const guard = createJobGuard({ ...{ log, name: 'issuer-logout', idMember: 'event_id' }, monotonicMs })

  async function takeLate(): Promise<void> {
    if (!guard.isDue(LATE)) return
    try {
      subjects.inc(await takeLateSubjects(db, { limit: BATCH, handOver }))
      guard.succeeded(LATE)
    } catch (error) {
      // The late subjects are tried again later. The issuer logouts continue.
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
      // A failure of one issuer logout does not block the others.
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

/** Creates a function that hands subjects over to planning: it appends a logout event for every subject to the event log. */
export function toEventLog(eventLog: EventLog, now: () => Date): HandOver {
  return async ({ event, salt, traceparent }, subjects) => {
    const acceptedAt = now()
    const children = subjects.map((sub) => childOf(event, sub, { acceptedAt, salt, digest }))
    await send(
      { items: children, parent: traceparent, laneOf: ({ lane }) => lane, encode: encodeLogoutEvent },
      (records) => eventLog.append(records),
    )
  }
}
