import { randomUUID } from 'node:crypto'
import type { EventLog, EventLogMonitor, IssuerName, Publisher, SigningAlgorithm } from '@curfew/domain'
import {
  type Database,
  type NewSigningKey,
  projectConfirmations,
  projectCutoffs,
  projectIssuerLogouts,
  projectSessions,
  projectSla,
} from '@curfew/ledger'
import type { Log, Metrics } from '@curfew/runtime'
import type { LogKeeper } from '@curfew/tokens'
import type { RelayedTokens } from '@curfew/wiring'
import { createAnnouncingJob } from './announcing.ts'
import { createErasingJob } from './erasing.ts'
import { createIssuerLogoutJob, toEventLog } from './issuer-logouts.ts'
import { createJournalJobs } from './journal.ts'
import type { Notifying } from './notifying.ts'
import { createOfferJobs } from './offers.ts'
import { createQuarantineJobs } from './quarantine.ts'
import { createClientJobs } from './readings/clients.ts'
import { createEventLogJob } from './readings/event-log.ts'
import { createLeaseJob } from './readings/leases.ts'
import { createProjectionJob } from './readings/projections.ts'
import { createReceiptProjector, type ReceiptSettings } from './receipts.ts'
import type { Job } from './repeat.ts'
import { createReplayJob } from './replay.ts'
import { createRetentionJob, type Retention } from './retention.ts'
import { createRotationJob } from './rotation.ts'
import { createSessionQuotaJob } from './session-quotas.ts'
import { createSessionJobs } from './sessions.ts'
import { createSlaJobs } from './sla/jobs.ts'
import { createUnverifiedJob } from './unverified.ts'

// The jobs of the bookkeeper. Each has its own pace.

export interface JobDeps {
  readonly db: Database
  /** The event log that receives the logouts created by issuer logouts. */
  readonly eventLog: EventLog
  readonly monitor: EventLogMonitor
  /** Null if there is no topic to publish to. Outcomes are then in the ledger only. */
  readonly publisher: Publisher | null
  readonly retention: Retention
  readonly receipts: ReceiptSettings
  /** The maximum number of sessions of an issuer that has no quota of its own. */
  readonly sessionsMax: number
  readonly logKeeper: Pick<LogKeeper, 'newLog' | 'subjectHash'>
  /** Verifies the tokens that the relay could not verify. */
  readonly relayedTokens: Pick<RelayedTokens, 'verify'>
  /** Creates a signing key. */
  readonly generateKey: (issuer: IssuerName, algorithm: SigningAlgorithm) => Promise<NewSigningKey>
  /** The clock for key rotations, overdue deliveries, repeated erasures and confirmations. Default: the clock of this machine. */
  readonly now?: () => Date
  readonly log: Log
  readonly metrics: Metrics
}

/** Creates all jobs. */
export function jobsOf(
  {
    db,
    eventLog,
    monitor,
    publisher,
    retention,
    receipts,
    sessionsMax,
    logKeeper,
    generateKey,
    relayedTokens,
    now = () => new Date(),
    log,
    metrics,
  }: JobDeps,
  { deadLetterWindowMs: windowMs }: Notifying,
  stopping: AbortSignal,
): readonly Job[] {
  const issued = metrics.counter('receipts_issued_total', 'Receipts of settled events, appended to the log.')
  const projectors = {
    sessions: projectSessions,
    'issuer logouts': projectIssuerLogouts,
    sla: projectSla,
    confirmations: projectConfirmations,
    cutoffs: projectCutoffs,
    receipts: createReceiptProjector({
      ...receipts,
      keeper: logKeeper,
      now,
      newJti: randomUUID,
      log,
      onIssued: (count) => issued.inc(count),
    }),
  }
  return [
    createReplayJob({ db, log, metrics }),
    createIssuerLogoutJob({ db, handOver: toEventLog(eventLog, () => new Date()), log, metrics }),
    createRetentionJob({ ...retention, db, now: () => new Date(), log, stopping }),
    createErasingJob({ db, logKeeper, receipts, now, log }),
    createRotationJob({ db, generateKey, now, log, stopping }),
    createAnnouncingJob({ db, publisher, windowMs, log, metrics }),
    ...createJournalJobs({ db, log, projectors }),
    ...createOfferJobs({ db, log, metrics }),
    ...createSlaJobs({ db, now, log, metrics }),
    createEventLogJob({ monitor, metrics }),
    createLeaseJob({ db, metrics }),
    createSessionQuotaJob({ db, sessionsMax, log, metrics }),
    createProjectionJob({ db, metrics, projectors: Object.keys(projectors) }),
    ...createClientJobs({ db, metrics }),
    ...createSessionJobs({ db, log, metrics, windowMs, stopping }),
    ...createQuarantineJobs({ db, eventLog, log, metrics, windowMs }),
    createUnverifiedJob({ db, tokens: relayedTokens, log }),
  ]
}
