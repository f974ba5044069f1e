import { type Database, type Poster, postJournal, postLeft } from '@curfew/ledger'
import type { Log } from '@curfew/runtime'
import type { Chore } from './repeat.ts'

/** Entries of the journal in one transaction; each is a batch of plans or settlements. */
const BATCH = 40
const PAUSE_MS = 200
const FAILURE_PAUSE_MS = 1_000
/** Between two looks at what a poster failed at, and the longest that this grows to while it fails, in milliseconds. */
const LEFT_PAUSE_MS = { first: 1_000, max: 60_000 }

/**
 * Posts the journal, and beside it what one of the posters failed at: whatever is wrong with one book, the others are kept.
 *
 * @param posters by the name of their book.
 */
export function createJournalChores({
  db,
  log,
  posters,
}: {
  db: Database
  log: Log
  posters: Readonly<Record<string, Poster>>
}): readonly Chore[] {
  const named = Object.entries(posters)
  const names = new Map(named.map(([name, post]) => [post, name]))
  const onFailed = (poster: string, error: unknown) =>
    log.error({ event: 'journal.poster-failed', poster, err: error })
  let limit = BATCH
  const posting: Chore = {
    name: 'journal',
    pauseMs: PAUSE_MS,
    failurePauseMs: FAILURE_PAUSE_MS,
    async round() {
      const taken = limit
      // What is too much for one transaction may be little enough in two.
      limit = Math.max(1, Math.floor(taken / 2))
      const posted = await postJournal(db, { limit: taken, posters: Object.values(posters), names, onFailed })
      limit = Math.min(BATCH, taken * 2)
      return posted === taken
    },
  }
  return [posting, ...named.map(([name, post]) => leftChore({ db, name, post, onFailed }))]
}

function leftChore(left: Omit<Parameters<typeof postLeft>[1], 'limit'> & { db: Database }): Chore {
  let limit = BATCH
  let pauseMs = LEFT_PAUSE_MS.first
  return {
    name: `what is left of ${left.name}`,
    get pauseMs() {
      return pauseMs
    },
    failurePauseMs: FAILURE_PAUSE_MS,
    async round() {
      const result = await postLeft(left.db, { ...left, limit })
      if (result === null) return false
      if (result.posted) pauseMs = LEFT_PAUSE_MS.first
      else if (result.entries === 1 && !result.split) pauseMs = Math.min(pauseMs * 2, LEFT_PAUSE_MS.max)
      limit = result.posted ? Math.min(BATCH, limit * 2) : 1
      return result.posted ? result.entries > 0 : result.entries > 1 || result.split
    },
  }
}
