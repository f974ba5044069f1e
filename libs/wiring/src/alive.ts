import { CurfewError } from '@curfew/domain'
import { type Alive, countAlive, type Database } from '@curfew/ledger'
import { type Metrics, type Service, sleep } from '@curfew/runtime'
import { differenceText, isTooFar, readOffsetMs } from './clock-check.ts'

/** No delivery worker is alive, or no bookkeeper: accepted logouts wait in the event log, or receipts and figures are late. */
export class NoneAliveError extends CurfewError {
  override readonly code = 'ERR_NONE_ALIVE_DEGRADED'
}

/** This machine's clock and PostgreSQL's differ by more than a minute. The process still works, but records wrong times. */
export class ClockDegradedError extends CurfewError {
  override readonly code = 'ERR_CLOCK_DEGRADED'
}

/** Watches how many delivery workers and bookkeepers are alive, and this machine's clock. */
export interface AliveWatch {
  readonly service: Service
  /** The last reading. Null if PostgreSQL did not answer, or it is more than 30 s old. */
  latest(): Alive | null
  /** Readiness checks. They pass while PostgreSQL does not answer: the check `ledger` fails then. */
  readonly checks: { readonly workers: () => Promise<void>; readonly bookkeepers: () => Promise<void> }
  /**
   * The readiness check of the clock, for processes that must go on. Ingest stamps the time of acceptance, which decides whether a
   * session began before a logout. Passes while PostgreSQL does not answer.
   */
  readonly clock: () => Promise<void>
}

const PAUSE_MS = 5_000
const KEPT_MS = 30_000
/** A check fails after this time without a live process, in milliseconds: a start or a restart is no fault. */
const GRACE_MS = 30_000

/**
 * Creates the watch. The readings are the same in all processes, so that the metrics survive the death of any of them.
 *
 * @param monotonicMs monotonic time in milliseconds.
 * @param wallMs this machine's clock, in milliseconds since 1970.
 */
export function createAliveWatch({
  db,
  metrics,
  monotonicMs = () => performance.now(),
  wallMs = () => Date.now(),
}: {
  readonly db: Database
  readonly metrics: Metrics
  readonly monotonicMs?: () => number
  readonly wallMs?: () => number
}): AliveWatch {
  let clock: { readonly offsetMs: number; readonly atMs: number } | null = null
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
    try {
      clock = { offsetMs: await readOffsetMs(db, { monotonicMs, wallMs }), atMs: monotonicMs() }
    } catch {
      // As above.
      clock = null
    }
  }
  const offsetMs = () => (clock !== null && monotonicMs() - clock.atMs <= KEPT_MS ? clock.offsetMs : null)
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
  metrics.gauge('clock_offset_seconds', "This machine's clock minus the database's.", () => {
    const ms = offsetMs()
    return ms === null ? null : ms / 1_000
  })
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
    async clock() {
      const ms = offsetMs() ?? 0
      if (isTooFar(ms)) throw new ClockDegradedError(differenceText(ms))
    },
  }
}
