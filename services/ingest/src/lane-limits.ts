import type { LogLane } from '@curfew/domain'
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
 * @param fullLanes which of these lanes hold too much now; null: the log has no limit of ours.
 */
export function createLaneLimits({
  fullLanes,
  log,
}: {
  fullLanes: ((lanes: readonly LogLane[]) => Promise<ReadonlySet<LogLane>>) | null
  log: Log
}): LaneLimits {
  let full: ReadonlySet<LogLane> = new Set()

  async function look(ask: NonNullable<typeof fullLanes>): Promise<void> {
    try {
      const now = await ask(LIMITED)
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
        if (fullLanes === null) return aborted(stopping)
        while (!stopping.aborted) {
          await look(fullLanes)
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
