import type { LogLane } from '@curfew/domain'
import { type Database, fullLanes } from '@curfew/ledger'
import { aborted, type Log, ProblemError, type Service, sleep } from '@curfew/runtime'

/** Which lanes of the event log are too full. Interactive logouts are taken for as long as the log takes them. */
export interface LaneLimits {
  isFull(lane: LogLane): boolean
  readonly service: Service
}

const POLL_MS = 3_000
const RETRY_AFTER_S = 30
const LIMITED: readonly LogLane[] = ['bulk', 'sessions']

/**
 * Keeps up with how much waits in the event log.
 *
 * @param backlogMax most records that may wait in a limited lane; null: the log has no limit of ours.
 */
export function createLaneLimits({
  db,
  backlogMax,
  log,
}: {
  db: Database
  backlogMax: number | null
  log: Log
}): LaneLimits {
  let full: ReadonlySet<LogLane> = new Set()

  async function look(max: number): Promise<void> {
    try {
      const now = await fullLanes(db, { lanes: LIMITED, max })
      for (const lane of now) if (!full.has(lane)) log.error({ event: 'event-log.full', lane })
      full = now
    } catch (error) {
      // What cannot be asked is not refused: an append says so itself where the log is away.
      full = new Set()
      log.warn({ event: 'event-log.backlog-unknown', err: error })
    }
  }

  return {
    isFull: (lane) => full.has(lane),
    service: {
      name: 'lane limits',
      async run({ stopping, ready }) {
        ready()
        // A service that ends before it is told to ends the process.
        if (backlogMax === null) return aborted(stopping)
        while (!stopping.aborted) {
          await look(backlogMax)
          await sleep(POLL_MS, stopping)
        }
      },
    },
  }
}

/** The refusal of what would go into a full lane. */
export function laneFull(lane: LogLane, what: string): ProblemError {
  return new ProblemError({
    status: 429,
    title: 'Backlog',
    detail: `Too many ${what} wait in the event log. Send these again later. Interactive logouts are taken meanwhile.`,
    headers: { 'retry-after': String(RETRY_AFTER_S) },
    extensions: { lane },
  })
}
