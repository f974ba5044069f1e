import { RECEIPT_SUBJECTS } from '@curfew/domain'
import { type Environment, type EnvironmentReader, readEnvironment, readLogOrigin } from '@curfew/runtime'
import { readCommonConfig, readMasterKeys } from '@curfew/wiring'
import type { ReceiptSettings } from './receipts.ts'
import type { Retention } from './retention.ts'

/** Reads the environment of the bookkeeper service. @throws {ConfigurationError} */
export function readBookkeeperConfig(env: Environment) {
  return readEnvironment(env, (read) => ({
    ...readCommonConfig(read, { port: 8484 }),
    ...readMasterKeys(read),
    retention: readRetention(read),
    receipts: readReceiptSettings(read),
    sessionsMax: readSessionsMax(read),
  }))
}

/**
 * The minimum is longer than the event log keeps its records. A redelivered record of a deleted event would count as a new
 * logout.
 */
const DAYS_MIN = 8
const DAYS_MAX = 3_650
/** The longest window of an error budget, plus one day. */
const SLA_DAYS_MIN = 91
/** The minimum protects the audit log from a mistyped retention. */
const AUDIT_DAYS_MIN = 90

/** Reads the retention of every kind of data. @throws {ConfigurationError} */
export function readRetention(read: Pick<EnvironmentReader, 'integer' | 'fault'>): Retention {
  const days = (name: string, fallback: number, min: number = DAYS_MIN) =>
    read.integer(name, { fallback, min, max: DAYS_MAX })
  const retentionDays = days('CURFEW_RETENTION_DAYS', 30)
  // Attempts must not outlive their events: the erasure of a subject finds them through the events.
  const attemptRetentionDays = days('CURFEW_ATTEMPT_RETENTION_DAYS', retentionDays)
  if (attemptRetentionDays > retentionDays)
    read.fault('CURFEW_ATTEMPT_RETENTION_DAYS must not be more than CURFEW_RETENTION_DAYS')
  const deadLetterRetentionDays = days('CURFEW_DEAD_LETTER_RETENTION_DAYS', Math.max(90, retentionDays))
  if (deadLetterRetentionDays < retentionDays)
    read.fault('CURFEW_DEAD_LETTER_RETENTION_DAYS must not be less than CURFEW_RETENTION_DAYS')
  const receiptRetentionDays = days('CURFEW_RECEIPT_RETENTION_DAYS', Math.max(400, deadLetterRetentionDays))
  if (receiptRetentionDays < deadLetterRetentionDays)
    read.fault('CURFEW_RECEIPT_RETENTION_DAYS must not be less than CURFEW_DEAD_LETTER_RETENTION_DAYS')
  return {
    retentionDays,
    attemptRetentionDays,
    deadLetterRetentionDays,
    slaRetentionDays: days('CURFEW_SLA_RETENTION_DAYS', 400, SLA_DAYS_MIN),
    receiptRetentionDays,
    auditRetentionDays: days('CURFEW_AUDIT_RETENTION_DAYS', 730, AUDIT_DAYS_MIN),
    quarantineRetentionDays: days('CURFEW_QUARANTINE_RETENTION_DAYS', 90),
    notificationRetentionDays: days('CURFEW_NOTIFICATION_RETENTION_DAYS', retentionDays),
    replayRetentionDays: days('CURFEW_REPLAY_RETENTION_DAYS', 90),
    probeRetentionDays: days('CURFEW_PROBE_RETENTION_DAYS', 365),
    logoutAuditRetentionDays: days('CURFEW_LOGOUT_AUDIT_RETENTION_DAYS', 400),
    erasureRetentionDays: days('CURFEW_ERASURE_RETENTION_DAYS', 1_095),
  }
}

/** Reads the maximum number of sessions of an issuer that has no quota of its own. */
export function readSessionsMax(read: Pick<EnvironmentReader, 'integer'>): number {
  return read.integer('CURFEW_SESSIONS_MAX_PER_ISSUER', {
    fallback: 20_000_000,
    min: 0,
    max: 1_000_000_000,
  })
}

/** Reads how receipts are issued. Subjects are hashed by default because receipts are given to third parties. */
export function readReceiptSettings(
  read: Pick<EnvironmentReader, 'oneOf' | 'optional' | 'fault'>,
): ReceiptSettings {
  return {
    subject: read.oneOf('CURFEW_RECEIPT_SUBJECT', RECEIPT_SUBJECTS, 'hash'),
    origin: readLogOrigin(read),
  }
}
