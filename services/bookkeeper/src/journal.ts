import { type Database, type Projector, projectJournal, projectLeft } from '@curfew/ledger'
import type { Log } from '@curfew/runtime'
import type { Job } from './repeat.ts'

/** Journal entries projected in one transaction. An entry is a batch of plans or settlements. */
const BATCH = 40
const PAUSE_MS = 200
const FAILURE_PAUSE_MS = 1_000
/** The pause before a failed entry is tried again, and its maximum after repeated failures, in milliseconds. */
const LEFT_PAUSE_MS = { first: 1_000, max: 60_000 }

/**
 * Creates the jobs that project the journal, and one job per projector for the entries at which it failed. A failing projector
 * does not delay the others.
 *
 * @param projectors the projectors by the name of their projection.
 */
export function createJournalJobs({
  db,
  log,
  projectors,
}: {
  db: Database
  log: Log
  projectors: Readonly<Record<string, Projector>>
}): readonly Job[] {
  const named = Object.entries(projectors)
  const names = new Map(named.map(([name, projector]) => [projector, name]))
  const onFailed = (projector: string, error: unknown) =>
    log.error({ event: 'journal.projector-failed', projector, err: error })
  let limit = BATCH
  const projecting: Job = {
    name: 'journal',
    pauseMs: PAUSE_MS,
    failurePauseMs: FAILURE_PAUSE_MS,
    async round() {
      const taken = limit
      // A batch that is too large for one transaction may fit in two.
      limit = Math.max(1, Math.floor(taken / 2))
      const projected = await projectJournal(db, {
        limit: taken,
        projectors: Object.values(projectors),
        names,
        onFailed,
      })
      limit = Math.min(BATCH, taken * 2)
      return projected === taken
    },
  }
  return [projecting, ...named.map(([name, projector]) => leftJob({ db, name, projector, onFailed }))]
}

function leftJob(left: Omit<Parameters<typeof projectLeft>[1], 'limit'> & { db: Database }): Job {
  let limit = BATCH
  let pauseMs = LEFT_PAUSE_MS.first
  return {
    name: `what is left of ${left.name}`,
    get pauseMs() {
      return pauseMs
    },
    failurePauseMs: FAILURE_PAUSE_MS,
    async round() {
      const result = await projectLeft(left.db, { ...left, limit })
      if (result === null) return false
      if (result.projected) pauseMs = LEFT_PAUSE_MS.first
      else if (result.entries === 1 && !result.split) pauseMs = Math.min(pauseMs * 2, LEFT_PAUSE_MS.max)
      limit = result.projected ? Math.min(BATCH, limit * 2) : 1
      return result.projected ? result.entries > 0 : result.entries > 1 || result.split
    },
  }
}
