import { CurfewError } from '@curfew/domain'
import { type Alive, countAlive, type Database } from '@curfew/ledger'
import { type Metrics, type Service, sleep } from '@curfew/runtime'

/** No delivery worker is alive, or no bookkeeper: accepted logouts wait in the event log, or receipts and figures are late. */
export class NoneAliveError extends CurfewError {
  override readonly code = 'ERR_NONE_ALIVE_DEGRADED'
}

/** Watches how many delivery workers and bookkeepers are alive. */
export interface AliveWatch {
  readonly service: Service
  /** The last reading. Null if PostgreSQL did not answer, or it is more than 30 s old. */
  latest(): Alive | null
  /** Readiness checks. They pass while PostgreSQL does not answer: the check `ledger` fails then. */
  readonly checks: { readonly workers: () => Promise<void>; readonly bookkeepers: () => Promise<void> }
}

const PAUSE_MS = 5_000
const KEPT_MS = 30_000
/** A check fails after this time without a live process, in milliseconds: a start or a restart is no fault. */
const GRACE_MS = 30_000

/**
 * Creates the watch. The readings are the same in all processes, so that the metrics survive the death of any of them.
 *
 * @param monotonicMs monotonic time in milliseconds.
 */
export function createAliveWatch({
  db,
  metrics,
  monotonicMs = () => performance.now(),
}: {
  readonly db: Database
  readonly metrics: Metrics
  readonly monotonicMs?: () => number
}): AliveWatch {
  let last: { readonly alive: Alive; readonly atMs: number } | null = null
  const startedMs = monotonicMs()
  const seenMs = { workers: startedMs, bookkeepers: startedMs }

  async function read(): Promise<void> {
    try {
      const alive = await countAlive(db)
      last = { alive, atMs: monotonicMs() }
      if (alive.workers > 0) seenMs.workers = last.atMs
      if (alive.bookkeepers > 0) seenMs.bookkeepers = last.atMs
    } catch {
      // The check `ledger` reports it.
      last = null
    }
  }
  const latest = () => (last !== null && monotonicMs() - last.atMs <= KEPT_MS ? last.alive : null)
  const check = (kind: keyof Alive, noun: string, consequence: string) => async () => {
    if (latest()?.[kind] !== 0 || monotonicMs() - seenMs[kind] < GRACE_MS) return
    throw new NoneAliveError(`no ${noun} is alive: ${consequence}`)
  }

  metrics.gauge(
    'workers_alive',
    'Delivery workers with a heartbeat in the last 30 s.',
    () => latest()?.workers ?? null,
  )
  metrics.gauge(
    'bookkeepers_alive',
    'Bookkeepers with a heartbeat in the last 30 s.',
    () => latest()?.bookkeepers ?? null,
  )
  return {
    service: {
      name: 'alive watch',
      async run({ stopping, ready }) {
        ready()
        while (!stopping.aborted) {
          await read()
          await sleep(PAUSE_MS, stopping)
        }
      },
    },
    latest,
    checks: {
      workers: check('workers', 'delivery worker', 'accepted logouts wait in the event log'),
      bookkeepers: check('bookkeepers', 'bookkeeper', 'receipts, SLA figures and notifications wait'),
    },
  }
}
