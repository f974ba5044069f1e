import { randomUUID } from 'node:crypto'
import type { EventLog, EventLogMonitor, IssuerName, Publisher, SigningAlgorithm } from '@curfew/domain'
import { type Database, type NewSigningKey, postIssuerLogouts, postSessions, postSla } from '@curfew/ledger'
import type { Log, Metrics } from '@curfew/runtime'
import type { LogKeeper } from '@curfew/tokens'
import { createAnnouncingChore } from './announcing.ts'
import { createErasingChore } from './erasing.ts'
import { createEventLogChore } from './event-log.ts'
import { createIssuerLogoutChore, toEventLog } from './issuer-logouts.ts'
import { createJournalChores } from './journal.ts'
import { createJournalLeftChore } from './journal-left.ts'
import { createLeaseChore } from './leases.ts'
import type { Notifying } from './notifying.ts'
import { createQuarantineChores } from './quarantine.ts'
import { createReceiptPoster, type ReceiptSettings } from './receipts.ts'
import type { Chore } from './repeat.ts'
import { createReplayChore } from './replay.ts'
import { createRetentionChore, type Retention } from './retention.ts'
import { createRotationChore } from './rotation.ts'
import { createSessionQuotaChore } from './session-quotas.ts'
import { createSessionChores } from './sessions.ts'
import { createSlaChore } from './sla.ts'

// What the bookkeeper does again and again, each at its pace.

export interface ChoreDeps {
  readonly db: Database
  /** Where the logouts go that a logout of everyone is made of. */
  readonly eventLog: EventLog
  readonly monitor: EventLogMonitor
  /** Null where nobody can listen: then what becomes of logouts is in the ledger alone. */
  readonly publisher: Publisher | null
  readonly retention: Retention
  readonly receipts: ReceiptSettings
  /** Sessions that an issuer may have that has no quota of its own. */
  readonly sessionsMax: number
  readonly logKeeper: Pick<LogKeeper, 'newLog' | 'subjectHash'>
  /** Makes a signing key. */
  readonly generateKey: (issuer: IssuerName, algorithm: SigningAlgorithm) => Promise<NewSigningKey>
  /**
   * When keys turn, what is overdue, and when what is to be erased is looked for again, is decided by it. Default: the clock of
   * this machine.
   */
  readonly now?: () => Date
  readonly log: Log
  readonly metrics: Metrics
}

/** All of it. */
export function choresOf(
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
    now = () => new Date(),
    log,
    metrics,
  }: ChoreDeps,
  { deadLetterWindowMs: windowMs }: Notifying,
  stopping: AbortSignal,
): readonly Chore[] {
  const issued = metrics.counter('receipts_issued_total', 'Receipts of settled events, appended to the log.')
  const journal = createJournalChores({
    db,
    log,
    posters: {
      sessions: postSessions,
      'issuer logouts': postIssuerLogouts,
      sla: postSla,
      receipts: createReceiptPoster({
        ...receipts,
        keeper: logKeeper,
        now,
        newJti: randomUUID,
        log,
        onIssued: (count) => issued.inc(count),
      }),
    },
  })
  return [
    createReplayChore({ db, log, metrics }),
    createIssuerLogoutChore({ db, handOver: toEventLog(eventLog, () => new Date()), log, metrics }),
    createRetentionChore({ ...retention, db, now: () => new Date(), log, stopping }),
    createErasingChore({ db, logKeeper, receipts, now, log }),
    createRotationChore({ db, generateKey, now, log, stopping }),
    createAnnouncingChore({ db, publisher, windowMs, log, metrics }),
    ...journal,
    createSlaChore({ db, now, log, metrics }),
    createEventLogChore({ monitor, metrics }),
    createLeaseChore({ db, metrics }),
    createSessionQuotaChore({ db, sessionsMax, log, metrics }),
    createJournalLeftChore({ db, metrics }),
    ...createSessionChores({ db, log, metrics, windowMs, stopping }),
    ...createQuarantineChores({ db, eventLog, log, metrics, windowMs }),
  ]
}
