import { type Database, runningReplays, takeReplayBatch } from '@curfew/ledger'
import type { Log, Metrics, Service } from '@curfew/runtime'
import { type Chore, repeatUntil } from './repeat.ts'
import { replayRound } from './replay.ts'

export { readBookkeeperConfig } from './config.ts'

/** What the bookkeeper works with, already open. */
export interface BookkeeperDeps {
  readonly db: Database
  readonly log: Log
  readonly metrics: Metrics
}

/** Deliveries that a job puts back at once, and least time between, in milliseconds: 1,000 a second, so that logouts of now get in between. */
const REPLAY_BATCH = 200
const REPLAY_PAUSE_MS = 200
const FAILURE_PAUSE_MS = 1_000

/**
 * Wires the bookkeeper: what the ledger must do by itself. Opens nothing, starts nothing. As many as one likes may run
 * at once; each chore is done by one of them at a time.
 */
export function createBookkeeper({ db, log, metrics }: BookkeeperDeps): Service {
  const replayed = metrics.counter('deliveries_replayed_total', 'Dead letters put back by replays.')
  const chores: readonly Chore[] = [
    {
      name: 'replays',
      pauseMs: REPLAY_PAUSE_MS,
      failurePauseMs: FAILURE_PAUSE_MS,
      async round() {
        await replayRound({
          runningReplays: () => runningReplays(db),
          takeBatch: (job) => takeReplayBatch(db, { job, limit: REPLAY_BATCH, pauseMs: REPLAY_PAUSE_MS }),
          log,
          onReplayed: (deliveries) => replayed.inc(deliveries),
        })
        return false
      },
    },
  ]
  return {
    name: 'bookkeeper',
    async run({ stopping, ready }) {
      ready()
      await Promise.all(chores.map((chore) => repeatUntil(stopping, chore, log)))
    },
  }
}
