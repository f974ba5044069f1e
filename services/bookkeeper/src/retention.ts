import {
  createPartitions,
  type Database,
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

/** How long history is kept, in days. */
export interface Retention {
  readonly retentionDays: number
  /** Of attempts, with the relying party's own words. */
  readonly attemptRetentionDays: number
  /** Of dead letters, and of the events that they belong to. */
  readonly deadLetterRetentionDays: number
  /** Of how the promise was kept. */
  readonly slaRetentionDays: number
  /** Of receipts: proof outlives what it is of. */
  readonly receiptRetentionDays: number
  /** Of who changed or replayed what. */
  readonly auditRetentionDays: number
  /** Of log records that could not be understood. */
  readonly quarantineRetentionDays: number
  /** Of notifications, and what became of them at webhooks. */
  readonly notificationRetentionDays: number
  /** Of replays that have ended. */
  readonly replayRetentionDays: number
  /** Of probes. */
  readonly probeRetentionDays: number
  /** Of requests to forget a subject that are closed, which name nobody. */
  readonly erasureRetentionDays: number
}

export interface RetentionDeps extends Retention {
  readonly db: Database
  readonly now: () => Date
  readonly log: Log
  /** Leaves the rest for another round. */
  readonly stopping: AbortSignal
}

const DAY_MS = 86_400_000
/** Days that partitions are made for ahead: so long nobody need be there to make them. */
const DAYS_AHEAD = 7
/** Rows that are looked at in one statement. */
const SWEEP_BATCH = 500
/** Rollups that are deleted at once: there is nothing to look at. */
const ROLLUP_BATCH = 5_000
/** A promise is of a day at most, and burn rates look back a few hours. */
const SLA_SLOTS_DAYS = 2
const PAUSE_MS = 3_600_000
const FAILURE_PAUSE_MS = 60_000
/** Between two batches of what is deleted, in milliseconds: others need the disk too. */
const DELETE_PAUSE_MS = 50

/** Makes partitions for the days to come, and deletes what is too old. */
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
    ['erasures', deleteErasures, deps.erasureRetentionDays],
  ] as const) {
    let count = 0
    for (let more = true; more && !stopping.aborted; ) {
      const deleted = await deleteOld(db, { before: daysAgo(days), limit: SWEEP_BATCH })
      count += deleted
      more = deleted === SWEEP_BATCH
      if (more) await pause()
    }
    if (count > 0) log.info({ event: `${what}.deleted`, count })
  }
  const rollups = {
    slotsBefore: daysAgo(SLA_SLOTS_DAYS),
    before: daysAgo(deps.slaRetentionDays),
    limit: ROLLUP_BATCH,
  }
  while (!stopping.aborted && (await deleteSlaRollups(db, rollups)) === ROLLUP_BATCH) await pause()
}
