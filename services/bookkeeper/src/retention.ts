import type { Dropped, DropRequest, Sweep, SweepPosition } from '@curfew/ledger'
import type { Log } from '@curfew/runtime'

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

/** Deletes one batch of what is older. @returns how many; fewer than `limit` where there is no more. */
type DeleteOld = (request: { before: Date; limit: number }) => Promise<number>

export interface RetentionDeps extends Retention {
  readonly createPartitions: (request: { now: Date; days: number }) => Promise<readonly string[]>
  readonly dropAttempts: (request: DropRequest) => Promise<Dropped>
  readonly dropReceipts: (request: DropRequest) => Promise<Dropped>
  readonly dropAudit: (request: DropRequest) => Promise<Dropped>
  readonly sweepHistory: (request: {
    before: Date
    deadBefore: Date
    after: SweepPosition | null
    limit: number
  }) => Promise<Sweep>
  readonly deleteSlaRollups: (request: { slotsBefore: Date; before: Date; limit: number }) => Promise<number>
  readonly deleteNotifications: DeleteOld
  readonly deleteQuarantined: DeleteOld
  readonly deleteReplays: DeleteOld
  readonly deleteProbes: DeleteOld
  readonly deleteErasures: DeleteOld
  readonly now: () => Date
  readonly log: Log
  /** Whether to leave the rest for another round. */
  readonly stopped: () => boolean
  /** Between two batches of what is deleted: others need the disk too. */
  readonly pause: () => Promise<void>
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

/** One round of retention: partitions for the days to come, and away with what is too old. */
export async function retentionRound(deps: RetentionDeps): Promise<void> {
  const { now, log, stopped, pause } = deps
  const startedAt = now()
  const daysAgo = (days: number) => new Date(startedAt.getTime() - days * DAY_MS)
  const before = daysAgo(deps.retentionDays)
  const made = await deps.createPartitions({ now: startedAt, days: DAYS_AHEAD })
  if (made.length > 0) log.info({ event: 'partitions.made', partitions: made })

  for (const [drop, olderThan] of [
    [deps.dropAttempts, daysAgo(deps.attemptRetentionDays)],
    [deps.dropReceipts, daysAgo(deps.receiptRetentionDays)],
    [deps.dropAudit, daysAgo(deps.auditRetentionDays)],
  ] as const) {
    for (let more = true; more && !stopped(); ) {
      const result = await drop({ before: olderThan, limit: SWEEP_BATCH })
      if (result.dropped.length > 0) log.info({ event: 'partitions.dropped', partitions: result.dropped })
      more = result.more
      if (more) await pause()
    }
  }

  const total = { events: 0, deliveries: 0 }
  const deadBefore = daysAgo(deps.deadLetterRetentionDays)
  for (let after: SweepPosition | null = null; !stopped(); await pause()) {
    const swept: Sweep = await deps.sweepHistory({ before, deadBefore, after, limit: SWEEP_BATCH })
    total.events += swept.events
    total.deliveries += swept.deliveries
    after = swept.next
    if (after === null) break
  }
  if (total.events > 0) log.info({ event: 'history.deleted', ...total })

  for (const [what, deleteOld, days] of [
    ['notifications', deps.deleteNotifications, deps.notificationRetentionDays],
    ['quarantined', deps.deleteQuarantined, deps.quarantineRetentionDays],
    ['replays', deps.deleteReplays, deps.replayRetentionDays],
    ['probes', deps.deleteProbes, deps.probeRetentionDays],
    ['erasures', deps.deleteErasures, deps.erasureRetentionDays],
  ] as const) {
    let count = 0
    for (let more = true; more && !stopped(); ) {
      const deleted = await deleteOld({ before: daysAgo(days), limit: SWEEP_BATCH })
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
  while (!stopped() && (await deps.deleteSlaRollups(rollups)) === ROLLUP_BATCH) await pause()
}
