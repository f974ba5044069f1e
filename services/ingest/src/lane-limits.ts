import type { LogLane } from '@curfew/domain'
import { type Database, fullLanes } from '@curfew/ledger'
import { aborted, type Log, ProblemError, type Service, sleep } from '@curfew/runtime'

/** Knows which limited lanes of the event log are full. The interactive lane has no limit. */
export interface LaneLimits {
  isFull(lane: LogLane): boolean
  readonly service: Service
}

const POLL_MS = 3_000
const RETRY_AFTER_S = 30
const LIMITED: readonly LogLane[] = ['bulk', 'sessions']

/**
 * Follows the backlog of the event log.
 *
 * @param backlogMax the greatest backlog of a limited lane, in records. Null: Curfew sets no limit.
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

  async function refresh(max: number): Promise<void> {
    try {
      const current = await fullLanes(db, { lanes: LIMITED, max })
      for (const lane of current) if (!full.has(lane)) log.error({ event: 'event-log.full', lane })
      full = current
    } catch (error) {
      // With an unknown backlog nothing is refused. If the event log is unavailable, the append fails by itself.
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
        // A service that ends before `stopping` aborts would end the process.
        if (backlogMax === null) return aborted(stopping)
        while (!stopping.aborted) {
          await refresh(backlogMax)
          await sleep(POLL_MS, stopping)
        }
      },
    },
  }
}

/** The refusal of records for a full lane. @param records the noun for them. */
export function laneFull(lane: LogLane, records: string): ProblemError {
  return new ProblemError({
    status: 429,
    title: 'Backlog too large',
    detail: `Too many ${records} wait in the event log. Send these again later. Interactive logouts are still accepted.`,
    headers: { 'retry-after': String(RETRY_AFTER_S) },
    extensions: { lane },
  })
}
