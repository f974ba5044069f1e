export {
  type ApiKeyRecord,
  createApiKey,
  findApiKey,
  listApiKeys,
  openCredentialStore,
  revokeApiKey,
} from './api-keys.ts'
export { applySessions } from './apply-sessions.ts'
export { type AuditRecord, type Change, listAudit } from './audit.ts'
export { noticeBreakers } from './breakers.ts'
export { type ClaimRequest, claimDue, type Lease, releaseDeliveries, type Slots } from './claim.ts'
export {
  asLedgerError,
  createDatabase,
  type Database,
  type DatabaseOptions,
  isUnavailable,
  type OpenDatabaseOptions,
  openDatabase,
  type Queryable,
  type Rows,
  type Statement,
  withTransaction,
} from './database.ts'
export {
  announceDeadLetters,
  type DeadLetterFilter,
  type DeadLetterGroup,
  type DeadLetterPosition,
  type DeadLetterRecord,
  findDeadLetter,
  listDeadLetters,
  summarizeDeadLetters,
} from './dead-letters.ts'
export { createDeliveryLedger, type DeliveryLedger } from './delivery-ledger.ts'
export { eraseSubject } from './erasing.ts'
export {
  claimErasure,
  deleteErasures,
  type ErasureRecord,
  failErasure,
  findErasure,
  findIssEver,
  requestErasure,
} from './erasures.ts'
export { type EventIdentity, identifyEvents } from './event-identity.ts'
export { createPostgresEventLog, type PostgresEventLogOptions } from './event-log.ts'
export { fullLanes } from './event-log-backlog.ts'
export {
  chooseEventLog,
  countUnread,
  type EventLogUser,
  noteEventLog,
  POSTGRES_LOG,
  readEventLogChoice,
} from './event-log-choice.ts'
export { type EventLogGuardOptions, type GuardedEventLog, guardEventLog } from './event-log-guard.ts'
export { createPostgresMonitor } from './event-log-monitor.ts'
export {
  type DeliveryFault,
  isDataFault,
  isRefusal,
  isStatementTimeout,
  type OnDeliveryFault,
} from './faults.ts'
export { findSessions, type SessionQuestion } from './find-sessions.ts'
export {
  coveringDeliveries,
  type DeliveryFilter,
  type DeliveryRecord,
  type EventRecord,
  type FoundEvent,
  findDelivery,
  findEvents,
  listDeliveries,
  type StoredAttempt,
  settledEvents,
} from './history.ts'
export { importRelyingParties, type RelyingPartyOutline } from './import-relying-parties.ts'
export { type IssuerLogoutPreview, previewIssuerLogout } from './issuer-logout-counts.ts'
export {
  type HandOver,
  type IssuerLogoutJob,
  runningIssuerLogouts,
  type TakenSubjects,
  takeLateSubjects,
  takeSubjects,
} from './issuer-logout-pages.ts'
export {
  cancelIssuerLogout,
  failIssuerLogout,
  findIssuerLogout,
  type IssuerLogoutRecord,
  listIssuerLogouts,
} from './issuer-logouts.ts'
export { askedIssuer, createIssuerNames, type IssuerNames } from './issuer-names.ts'
export { openIssuerNetworks } from './issuer-networks.ts'
export {
  findIssuer,
  findIssuerNetworkRule,
  type IssuerDraft,
  type IssuerQuotas,
  type IssuerRecord,
  listIssuers,
  putIssuer,
  removeIssuer,
} from './issuers.ts'
export {
  countJournalLeft,
  type JournalEntry,
  type OnPosterFailed,
  type Poster,
  postJournal,
  postLeft,
} from './journal.ts'
export { noticeExpiringKeys } from './key-expiry.ts'
export {
  createLedgerCheck,
  MIGRATIONS_FOLDER,
  type MigrateOptions,
  MigrationError,
  migrate,
  PostgresTooOldError,
  SchemaTooNewError,
} from './migrate.ts'
export { narrowClaimed } from './narrow.ts'
export {
  deleteNotifications,
  fanOutNotifications,
  type NotificationRecord,
  publishNotifications,
} from './notifications.ts'
export { type OutcomeRecord, outcomesOf, publishAcknowledgements } from './outcomes.ts'
export {
  createPartitions,
  type Dropped,
  type DropRequest,
  dropAttempts,
  dropAudit,
  dropReceipts,
} from './partitions.ts'
export { type PlannedEvent, type PlanRequest, type PlanResult, planEvents } from './plan.ts'
export { postIssuerLogouts } from './post-issuer-logouts.ts'
export { oweLateLogouts, postSessions } from './post-sessions.ts'
export { dropProbe, endProbe, findLastProbe, type ProbeRecord, progressProbe, startProbe } from './probes.ts'
export { putRelyingParties, type RelyingPartyDraft, type TakenUri, takenUris } from './put-relying-parties.ts'
export { createQuarantine, quarantine } from './quarantine.ts'
export {
  dismissQuarantined,
  findQuarantinedEvent,
  findQuarantinedRecord,
  listQuarantined,
  type QuarantinedContent,
  type QuarantinedRecord,
  type QuarantineKey,
  requestRequeue,
  takeRequeues,
} from './quarantine-decisions.ts'
export { countQuarantined, noticeQuarantined } from './quarantine-notices.ts'
export { type EventToday, findToday, findUnreceipted } from './receipt-facts.ts'
export {
  lockReceiptLog,
  type NewReceiptLog,
  openReceiptLog,
  type ReceiptLog,
  readTiles,
} from './receipt-log.ts'
export {
  findReceipt,
  findReceiptsOfGivenId,
  insertReceipts,
  isReceiptAwaited,
  listReceipts,
  type StoredReceipt,
} from './receipts.ts'
export {
  disableBinding,
  type KnownIssuer,
  type Registry,
  readRegistry,
  readRegistryRevision,
  type StoredSettings,
} from './registry.ts'
export {
  countWaiting,
  type EndpointRecord,
  findNetworkRulesLeft,
  findRelyingParties,
  findRelyingParty,
  listRelyingParties,
  type RelyingPartyRecord,
  removeRelyingParty,
  type StoredMetadata,
} from './relying-parties.ts'
export { type EndpointHealthRecord, endpointsHealth } from './relying-party-health.ts'
export {
  cancelReplay,
  createReplay,
  failReplay,
  findReplay,
  type ReplayBatch,
  type ReplayJob,
  type ReplayProgress,
  type ReplayState,
  runningReplays,
  takeReplayBatch,
} from './replays.ts'
export {
  deleteProbes,
  deleteQuarantined,
  deleteReplays,
  type Sweep,
  type SweepPosition,
  sweepHistory,
} from './retention.ts'
export { listSealed, replaceSealed, type SealedSecret } from './sealed.ts'
export { expireSessions, listSessionPartitions, type SessionPartition } from './session-expiry.ts'
export { beganBy } from './session-order.ts'
export {
  countOrphans,
  listOrphans,
  noticeOrphans,
  type OrphanPosition,
  type OrphanRecord,
} from './session-orphans.ts'
export {
  enforceSessionQuotas,
  listOverQuota,
  noteBacklogGaps,
  noteGaps,
  type OverQuota,
  type SessionCount,
} from './session-quotas.ts'
export {
  listSessionsOfSid,
  listSessionsOfSubject,
  type SessionPosition,
  type SessionRecord,
} from './sessions.ts'
export {
  type AttemptRecord,
  bringForward,
  giveUpUnreachable,
  type Settled,
  settleDeliveries,
  supersedeOlder,
} from './settle.ts'
export { announceSettled, followSettled, type SettledFollower } from './settled.ts'
export {
  changeSigningKeys,
  findKeyRotation,
  findSigningKeys,
  listKeyIssuers,
  type NewSigningKey,
  openKeyStore,
  type SigningKeyChanges,
  type SigningKeyRecord,
} from './signing-keys.ts'
export {
  deleteSlaRollups,
  readPromises,
  type SlaFigures,
  type SlaGroups,
  type SlaNow,
  type SlaRequest,
  type SlaScope,
  slaByHour,
  slaByParty,
  slaFiledUntil,
  slaNow,
} from './sla.ts'
export { noteBurn, watchBurns } from './sla-burns.ts'
export { postSla } from './sla-posting.ts'
export { type StoredEncryption, toEncryption } from './stored-encryption.ts'
export type { StoredTls } from './stored-tls.ts'
export type { WalkedPage } from './walk.ts'
export {
  type ClaimedWebhookDelivery,
  claimWebhookDeliveries,
  listWebhookDeliveries,
  settleWebhookDelivery,
  type WebhookDeliveryRecord,
  type WebhookSettlement,
} from './webhook-deliveries.ts'
export {
  changeWebhook,
  createWebhook,
  deleteWebhook,
  findWebhook,
  listWebhooks,
  rotateWebhookSecret,
  testWebhook,
  WEBHOOKS_MAX,
  type WebhookRecord,
  type WebhookSettings,
} from './webhooks.ts'
export {
  type Beat,
  beat,
  oldestLeaseSeconds,
  readClock,
  reclaimLeases,
  registerWorker,
  releaseUnheld,
  retireWorker,
  type Standing,
} from './workers.ts'
