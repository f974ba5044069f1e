import { randomUUID } from 'node:crypto'
import { encodeDeadLetter } from '@curfew/contract'
import type { EventLog, EventLogMonitor, IssuerName, Publisher, SigningAlgorithm } from '@curfew/domain'
import {
  announceDeadLetters,
  announceSettled,
  changeSigningKeys,
  claimErasure,
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
  eraseSubject,
  failErasure,
  failIssuerLogout,
  failReplay,
  listKeyIssuers,
  type NewSigningKey,
  openReceiptLog,
  outcomesOf,
  postIssuerLogouts,
  postSessions,
  postSla,
  runningIssuerLogouts,
  runningReplays,
  sweepHistory,
  takeLateSubjects,
  takeReplayBatch,
  takeSubjects,
} from '@curfew/ledger'
import { createSeldom, type Log, type Metrics, sleep } from '@curfew/runtime'
import type { LogKeeper } from '@curfew/tokens'
import { erasingRound } from './erasing.ts'
import { createEventLogChore } from './event-log.ts'
import { issuerLogoutRound, toEventLog } from './issuer-logouts.ts'
import { createJobGuard } from './job-guard.ts'
import { createJournalChores } from './journal.ts'
import { createJournalLeftChore } from './journal-left.ts'
import { createLeaseChore } from './leases.ts'
import type { Notifying } from './notifying.ts'
import { publishOutcomes } from './outcomes.ts'
import { createQuarantineChores } from './quarantine.ts'
import { createReceiptPoster, type ReceiptSettings } from './receipts.ts'
import type { Chore } from './repeat.ts'
import { replayRound } from './replay.ts'
import { type Retention, retentionRound } from './retention.ts'
import { rotationRound } from './rotation.ts'
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

/** Deliveries that a job puts back at once, and the least time between, in milliseconds: 1,000 a second, so that logouts of now get in between. */
const REPLAY_BATCH = 200
const REPLAY_PAUSE_MS = 200
/**
 * Of a logout of everyone: sessions that are looked at in a page, the least time between two pages in milliseconds, and how many
 * subjects may wait to be planned. How fast these are planned the workers decide, who let people's own logouts go first.
 */
const EVERYONE_BATCH = 1_000
const EVERYONE_PAUSE_MS = 200
const EVERYONE_UNPLANNED_MAX = 2_000
const EVERYONE_PATIENCE_MS = 60_000
const ANNOUNCE_BATCH = 200
const ANNOUNCE_PAUSE_MS = 1_000
const RETENTION_PAUSE_MS = 3_600_000
const DELETE_PAUSE_MS = 50
const ERASING_PAUSE_MS = 1_000
/** A key is published a day before it signs: a minute is soon enough. */
const ROTATION_PAUSE_MS = 60_000
const FAILURE_PAUSE_MS = 1_000
const RETENTION_FAILURE_PAUSE_MS = 60_000

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
  { deadLetterWindowMs }: Notifying,
  stopping: AbortSignal,
): readonly Chore[] {
  const replayed = metrics.counter('deliveries_replayed_total', 'Dead letters put back by replays.')
  const guardOf = (name: string, idMember: string) =>
    createJobGuard({ log, name, idMember, monotonicMs: () => performance.now() })
  const replayGuard = guardOf('replay', 'replay_id')
  const erasureGuard = guardOf('erasure', 'erasure_id')
  const everyoneGuard = guardOf('issuer-logout', 'event_id')
  const replays: Chore = {
    name: 'replays',
    pauseMs: REPLAY_PAUSE_MS,
    failurePauseMs: FAILURE_PAUSE_MS,
    async round() {
      await replayRound({
        runningReplays: () => runningReplays(db),
        takeBatch: (job) => takeReplayBatch(db, { job, limit: REPLAY_BATCH, pauseMs: REPLAY_PAUSE_MS }),
        fail: (request) => failReplay(db, request),
        guard: replayGuard,
        log,
        onReplayed: (deliveries) => replayed.inc(deliveries),
      })
      return false
    },
  }
  const forgetting: Chore = {
    name: 'retention',
    pauseMs: RETENTION_PAUSE_MS,
    failurePauseMs: RETENTION_FAILURE_PAUSE_MS,
    async round() {
      await retentionRound({
        ...retention,
        createPartitions: (request) => createPartitions(db, request),
        dropAttempts: (request) => dropAttempts(db, request),
        dropReceipts: (request) => dropReceipts(db, request),
        dropAudit: (request) => dropAudit(db, request),
        sweepHistory: (request) => sweepHistory(db, request),
        deleteNotifications: (request) => deleteNotifications(db, request),
        deleteSlaRollups: (request) => deleteSlaRollups(db, request),
        deleteQuarantined: (request) => deleteQuarantined(db, request),
        deleteReplays: (request) => deleteReplays(db, request),
        deleteProbes: (request) => deleteProbes(db, request),
        deleteErasures: (request) => deleteErasures(db, request),
        now: () => new Date(),
        log,
        stopped: () => stopping.aborted,
        pause: () => sleep(DELETE_PAUSE_MS, stopping),
      })
      return false
    },
  }
  const tags = async (names: readonly string[]) => {
    const keys = await openReceiptLog(db, () => logKeeper.newLog(receipts.origin))
    return names.map((await logKeeper.subjectHash(keys)).tag)
  }
  const erasing: Chore = {
    name: 'erasing',
    pauseMs: ERASING_PAUSE_MS,
    failurePauseMs: FAILURE_PAUSE_MS,
    round: () =>
      erasingRound({
        claim: (request) => claimErasure(db, request),
        erase: (id) => eraseSubject(db, { id, now, tags }),
        fail: (request) => failErasure(db, request),
        guard: erasureGuard,
        now,
        log,
      }),
  }
  const rotating: Chore = {
    name: 'rotation',
    pauseMs: ROTATION_PAUSE_MS,
    failurePauseMs: ROTATION_PAUSE_MS,
    async round() {
      await rotationRound({
        listIssuers: () => listKeyIssuers(db),
        change: (issuer, work) => changeSigningKeys(db, issuer, work),
        generate: generateKey,
        now,
        log,
        stopped: () => stopping.aborted,
      })
      return false
    },
  }
  const published = metrics.counter(
    'dead_letters_published_total',
    'Dead letters published, repetitions too.',
  )
  const isTime = createSeldom()
  const announcing: Chore = {
    name: 'announcing',
    pauseMs: ANNOUNCE_PAUSE_MS,
    failurePauseMs: FAILURE_PAUSE_MS,
    async round() {
      const announced = await announceDeadLetters(db, {
        limit: ANNOUNCE_BATCH,
        windowMs: deadLetterWindowMs,
        onFault: ({ deliveryId, became, error }) => {
          if (isTime(deliveryId))
            log.error({ event: 'dead-letter.unannounced', delivery_id: deliveryId, became, err: error })
        },
        async publish(records) {
          if (publisher === null) return
          await publisher.publish('deadLetters', records.map(encodeDeadLetter))
          await publishOutcomes(
            publisher,
            await outcomesOf(
              db,
              records.map(({ id }) => id),
            ),
          )
          published.inc(records.length)
        },
      })
      return announced === ANNOUNCE_BATCH
    },
  }
  const subjects = metrics.counter(
    'issuer_logout_subjects_total',
    'Subjects for whom logouts of everyone made a logout.',
  )
  const handOver = toEventLog(eventLog, () => new Date())
  const everyone: Chore = {
    name: 'issuer-logouts',
    pauseMs: EVERYONE_PAUSE_MS,
    failurePauseMs: FAILURE_PAUSE_MS,
    async round() {
      await issuerLogoutRound({
        running: () => runningIssuerLogouts(db),
        takeSubjects: (job) =>
          takeSubjects(db, job, {
            limit: EVERYONE_BATCH,
            pauseMs: EVERYONE_PAUSE_MS,
            unplannedMax: EVERYONE_UNPLANNED_MAX,
            patienceMs: EVERYONE_PATIENCE_MS,
            handOver,
          }),
        takeLateSubjects: () => takeLateSubjects(db, { limit: EVERYONE_BATCH, handOver }),
        fail: (request) => failIssuerLogout(db, request),
        guard: everyoneGuard,
        announce: (id) => announceSettled(db, [id]),
        log,
        onSubjects: (count) => subjects.inc(count),
      })
      return false
    },
  }
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
  const burning = createSlaChore({ db, now, log, metrics })
  const waiting = createEventLogChore({ monitor, metrics })
  const leases = createLeaseChore({ db, metrics })
  const left = createJournalLeftChore({ db, metrics })
  const sessions = createSessionChores({ db, log, metrics, windowMs: deadLetterWindowMs, stopping })
  const quarantine = createQuarantineChores({ db, eventLog, log, metrics, windowMs: deadLetterWindowMs })
  const quotas = createSessionQuotaChore({ db, sessionsMax, log, metrics })
  return [
    replays,
    everyone,
    forgetting,
    erasing,
    rotating,
    announcing,
    ...journal,
    burning,
    waiting,
    leases,
    quotas,
    left,
    ...sessions,
    ...quarantine,
  ]
}
