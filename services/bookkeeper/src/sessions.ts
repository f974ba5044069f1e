import {
  countOrphans,
  countOverlong,
  type Database,
  expireSessions,
  listSessionPartitions,
  noticeOrphans,
  type SessionPartition,
  worstOverlong,
} from '@curfew/ledger'
import { type Log, type Metrics, sleep } from '@curfew/runtime'
import { createReading } from './readings/reading.ts'
import type { Job } from './repeat.ts'

export interface SessionJobsDeps {
  readonly db: Database
  readonly log: Log
  readonly metrics: Metrics
  /** The time that a notification of orphaned sessions waits for more of them, in milliseconds. */
  readonly windowMs: number
  readonly stopping: AbortSignal
}

/** Rows deleted in one statement, and the pause after it in milliseconds. At most about 15,000 rows are deleted a second. */
const EXPIRE_BATCH = 1_000
const EXPIRE_PAUSE_MS = 50
const EXPIRY_PAUSE_MS = 10_000
const NOTICE_BATCH = 1_000
const NOTICE_PAUSE_MS = 1_000
/** Clients whose overlong sessions are counted in one transaction, at most a thousand sessions of each. */
const OVERLONG_BATCH = 100
const OVERLONG_PAUSE_MS = 60_000
/** Another bookkeeper may have counted these. Less than the pause, which begins after the last count. */
const OVERLONG_AGE_MS = 50_000
/** The most clients in the metric. */
const OVERLONG_WORST = 50
const FAILURE_PAUSE_MS = 5_000

/** Creates the jobs that delete expired sessions and notify operators of orphaned and overlong ones. */
export function createSessionJobs(deps: SessionJobsDeps): readonly Job[] {
  const { db, log, metrics, windowMs, stopping } = deps
  const job = (name: string, pauseMs: number, round: Job['round']): Job => ({
    name,
    pauseMs,
    failurePauseMs: FAILURE_PAUSE_MS,
    round,
  })
  const orphans = createReading('count of orphaned sessions', () => countOrphans(db))
  metrics.gauges(
    'sessions_orphaned',
    'Sessions that should be over but probably are not, because their logout failed.',
    ['issuer'],
    () => [...(orphans.latest() ?? [])].map(([issuer, value]) => ({ labels: { issuer }, value })),
  )
  const overlong = createReading('overlong sessions', () => readOverlong(deps), {
    pauseMs: () => OVERLONG_PAUSE_MS,
  })
  metrics.gauges(
    'sessions_overlong',
    'Live sessions that have lasted far longer than is normal for their client. Only the clients with the most; at most 1,000 of each.',
    ['issuer', 'client_id'],
    () =>
      (overlong.latest() ?? []).map(({ issuer, clientId, sessions }) => ({
        labels: { issuer, client_id: clientId },
        value: sessions,
      })),
  )
  const expired = metrics.counter(
    'sessions_expired_total',
    'Rows of the session index that were deleted because their session expired.',
  )
  return [
    job('session expiry', EXPIRY_PAUSE_MS, async () => {
      await expiryRound({
        partitions: await listSessionPartitions(db),
        expire: (request) => expireSessions(db, { ...request, limit: EXPIRE_BATCH }),
        before: new Date(),
        limit: EXPIRE_BATCH,
        onDeleted: (rows) => expired.inc(rows),
        stopped: () => stopping.aborted,
        pause: () => sleep(EXPIRE_PAUSE_MS, stopping),
      })
      return false
    }),
    job('orphaned sessions', NOTICE_PAUSE_MS, async () => {
      const noticed = await noticeOrphans(db, { limit: NOTICE_BATCH, windowMs })
      if (noticed > 0) log.error({ event: 'sessions.orphaned', sessions: noticed })
      return noticed === NOTICE_BATCH
    }),
    orphans,
    overlong,
  ]
}

/** Counts the overlong sessions of the clients whose count is not fresh, and notifies. @returns the worst clients. */
async function readOverlong({ db, log, windowMs, stopping }: SessionJobsDeps) {
  for (let more = true; more && !stopping.aborted; ) {
    const counted = await countOverlong(db, { limit: OVERLONG_BATCH, ageMs: OVERLONG_AGE_MS, windowMs })
    for (const { issuer, count } of counted.noticed)
      log.warn({ event: 'sessions.overlong', issuer, sessions: count })
    more = counted.clients === OVERLONG_BATCH
    if (more) await sleep(EXPIRE_PAUSE_MS, stopping)
  }
  return worstOverlong(db, { limit: OVERLONG_WORST })
}

export interface ExpiryRound {
  readonly partitions: readonly SessionPartition[]
  readonly expire: (request: {
    partition: SessionPartition
    before: Date
    from: Date | null
  }) => Promise<{ readonly deleted: number; readonly until: Date | null }>
  readonly before: Date
  /** The most rows that one call deletes. */
  readonly limit: number
  readonly onDeleted: (rows: number) => void
  /** Whether to leave the rest to the next round. */
  readonly stopped: () => boolean
  /** Pauses after a batch, so that other work gets the disk too. */
  readonly pause: () => Promise<void>
}

/** Deletes expired sessions, partition by partition, in batches. */
export async function expiryRound(round: ExpiryRound): Promise<void> {
  for (const partition of round.partitions) {
    let from: Date | null = null
    for (let more = true; more && !round.stopped(); ) {
      const { deleted, until } = await round.expire({ partition, before: round.before, from })
      round.onDeleted(deleted)
      more = deleted === round.limit
      from = until
      if (more) await round.pause()
    }
  }
}
