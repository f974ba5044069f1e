import {
  createPartitions,
  type Database,
  deleteAuditRuns,
  deleteErasures,
  deleteNotifications,
  deleteProbes,
  deleteQuarantined,
  deleteReplays,
  deleteSlaRollups,
  dropAttempts,
  dropAudit,
  dropReceipts,
  type Sweep,
  type SweepPosition,
  sweepHistory,
} from '@curfew/ledger'
import { type Log, sleep } from '@curfew/runtime'
import type { Job } from './repeat.ts'

/** The retention of data, in days. */
export interface Retention {
  readonly retentionDays: number
  /** Attempts, which contain the relying party's answers. */
  readonly attemptRetentionDays: number
  /** Dead letters and their events. */
  readonly deadLetterRetentionDays: number
  /** SLA rollups. */
  readonly slaRetentionDays: number
  /** Receipts. A proof outlives the event that it proves. */
  readonly receiptRetentionDays: number
  /** Audit records. */
  readonly auditRetentionDays: number
  /** Quarantined log records. */
  readonly quarantineRetentionDays: number
  /** Notifications, with the results of their webhooks. */
  readonly notificationRetentionDays: number
  /** Replays that have ended. */
  readonly replayRetentionDays: number
  /** Probes. */
  readonly probeRetentionDays: number
  /** Logout audits that have ended. */
  readonly logoutAuditRetentionDays: number
  /** Closed erasures of subjects, which do not name the subject. */
  readonly erasureRetentionDays: number
}

export interface RetentionDeps extends Retention {
  readonly db: Database
  readonly now: () => Date
  readonly log: Log
  /** Aborts a round. The next round does the rest. */
  readonly stopping: AbortSignal
}

const DAY_MS = 86_400_000
/** Days for which partitions are created ahead. The bookkeeper may be absent for this long. */
const DAYS_AHEAD = 7
/** Rows examined in one statement. */
const SWEEP_BATCH = 500
/** Rollups deleted at once. A rollup needs no examination. */
const ROLLUP_BATCH = 5_000
/** The longest promise is one day, and burn rates look back a few hours. */
const SLA_SLOTS_DAYS = 2
const PAUSE_MS = 3_600_000
const FAILURE_PAUSE_MS = 60_000
/** The pause between two batches of deletions, in milliseconds, so that other work gets the disk too. */
const DELETE_PAUSE_MS = 50

/** Creates the job that creates partitions ahead and deletes expired data. */
export function createRetentionJob(deps: RetentionDeps): Job {
  return {
    name: 'retention',
    pauseMs: PAUSE_MS,
    failurePauseMs: FAILURE_PAUSE_MS,
    async round() {
      await retentionRound(deps)
      return false
    },
  }
}

async function retentionRound(deps: RetentionDeps): Promise<void> {
  const { db, now, log, stopping } = deps
  const pause = () => sleep(DELETE_PAUSE_MS, stopping)
  const startedAt = now()
  const daysAgo = (days: number) => new Date(startedAt.getTime() - days * DAY_MS)
  const before = daysAgo(deps.retentionDays)
  const made = await createPartitions(db, { now: startedAt, days: DAYS_AHEAD })
  if (made.length > 0) log.info({ event: 'partitions.made', partitions: made })

  for (const [drop, olderThan] of [
    [dropAttempts, daysAgo(deps.attemptRetentionDays)],
    [dropReceipts, daysAgo(deps.receiptRetentionDays)],
    [dropAudit, daysAgo(deps.auditRetentionDays)],
  ] as const) {
    for (let more = true; more && !stopping.aborted; ) {
      const result = await drop(db, { before: olderThan, limit: SWEEP_BATCH })
      if (result.dropped.length > 0) log.info({ event: 'partitions.dropped', partitions: result.dropped })
      more = result.more
      if (more) await pause()
    }
  }

  const total = { events: 0, deliveries: 0 }
  const deadBefore = daysAgo(deps.deadLetterRetentionDays)
  for (let after: SweepPosition | null = null; !stopping.aborted; await pause()) {
    const swept: Sweep = await sweepHistory(db, { before, deadBefore, after, limit: SWEEP_BATCH })
    total.events += swept.events
    total.deliveries += swept.deliveries
    after = swept.next
    if (after === null) break
  }
  if (total.events > 0) log.info({ event: 'history.deleted', ...total })

  for (const [what, deleteOld, days] of [
    ['notifications', deleteNotifications, deps.notificationRetentionDays],
    ['quarantined', deleteQuarantined, deps.quarantineRetentionDays],
    ['replays', deleteReplays, deps.replayRetentionDays],
    ['probes', deleteProbes, deps.probeRetentionDays],
    ['logout audits', deleteAuditRuns, deps.logoutAuditRetentionDays],
    ['erasures', deleteErasures, deps.erasureRetentionDays],
  ] as const) {
    let count = 0
    for (let more = true; more && !stopping.aborted; ) {
      const deleted = await deleteOld(db, { before: daysAgo(days), limit: SWEEP_BATCH })
      count += deleted
      more = deleted === SWEEP_BATCH
      if (more) await pause()
    }
    if (count > 0) log.info({ event: 'rows.deleted', what, count })
  }
  const rollups = {
    slotsBefore: daysAgo(SLA_SLOTS_DAYS),
    before: daysAgo(deps.slaRetentionDays),
    limit: ROLLUP_BATCH,
  }
  while (!stopping.aborted && (await deleteSlaRollups(db, rollups)) === ROLLUP_BATCH) await pause()
}
