export {
  type ApiKeyRecord,
  createApiKey,
  findApiKey,
  listApiKeys,
  openCredentialStore,
  revokeApiKey,
} from './access/api-keys.ts'
export { type AuditRecord, type Change, listAudit } from './access/audit.ts'
export { backfillCutoffs, projectCutoffs } from './cutoffs/projection.ts'
export {
  type CutoffEntry,
  type CutoffState,
  dropExpiredCutoffs,
  readCutoffSeqs,
  readCutoffState,
  readCutoffs,
  readCutoffsBehind,
} from './cutoffs/read.ts'
export {
  type CutoffReader,
  dropCutoffReaders,
  type FeedReaders,
  findAppliedCutoffs,
  findFeedBindings,
  noteCutoffReaders,
  readFeedReaders,
  removeCutoffReader,
} from './cutoffs/readers.ts'
export { noticeBreakers } from './delivery/breakers.ts'
export { type ClaimRequest, claimDue, type Lease, releaseDeliveries, type Slots } from './delivery/claim.ts'
export { type DeadLetterFilter, toFilterJson } from './delivery/dead-letter-filter.ts'
export {
  announceDeadLetters,
  type DeadLetterGroup,
  type DeadLetterPosition,
  findDeadLetter,
  listDeadLetters,
  summarizeDeadLetters,
} from './delivery/dead-letters.ts'
export { createDeliveryLedger, type DeliveryLedger } from './delivery/delivery-ledger.ts'
export { narrowClaimed } from './delivery/narrow.ts'
export { acknowledgeFetched, endOffers, type Fetched } from './delivery/offers.ts'
export { type PlannedEvent, type PlanRequest, type PlanResult, planEvents } from './delivery/plan.ts'
export {
  cancelReplay,
  createReplay,
  failReplay,
  findReplay,
  newGeneration,
  type ReplayBatch,
  type ReplayProgress,
  runningReplays,
  takeReplayBatch,
} from './delivery/replays.ts'
export {
  type AttemptRecord,
  bringForward,
  giveUpUnreachable,
  type Settled,
  settleDeliveries,
  supersedeOlder,
} from './delivery/settle.ts'
export {
  type Beat,
  beat,
  oldestLeaseSeconds,
  readClock,
  reclaimLeases,
  registerWorker,
  releaseUnheld,
  retireWorker,
  type WorkerMembership,
} from './delivery/workers.ts'
export { fullLanes } from './event-log/backlog.ts'
export {
  chooseEventLog,
  countUnread,
  noteEventLog,
  POSTGRES_LOG,
  readEventLogChoice,
  readOwnLedger,
} from './event-log/choice.ts'
export { createPostgresEventLog } from './event-log/event-log.ts'
export { type GuardedEventLog, guardEventLog } from './event-log/guard.ts'
export { createPostgresMonitor } from './event-log/monitor.ts'
export { createQuarantine, quarantine } from './event-log/quarantine.ts'
export {
  dismissQuarantined,
  findQuarantinedEvent,
  findQuarantinedRecord,
  findUnverified,
  listQuarantined,
  type QuarantinedContent,
  type QuarantinedRecord,
  type QuarantineKey,
  requestRequeue,
  requeueUnverified,
  takeRequeues,
  type UnverifiedRecord,
} from './event-log/quarantine-decisions.ts'
export { countQuarantined, noticeQuarantined } from './event-log/quarantine-notices.ts'
export { type Alive, beatBookkeeper, countAlive, retireBookkeeper } from './health/alive.ts'
export { readProjectionLag } from './health/projection-lag.ts'
export { readDead, readOpenBreakers, readUnsettled } from './health/unsettled.ts'
export { type EventIdentity, identifyEvents } from './history/event-identity.ts'
export { findEventNames } from './history/event-names.ts'
export {
  coveringDeliveries,
  type FoundDelivery,
  type FoundEvent,
  findDelivery,
  findEvents,
  listDeliveries,
  settledEvents,
} from './history/history.ts'
export {
  type JournalEntry,
  type Projector,
  projectJournal,
  projectLeft,
} from './history/journal.ts'
export { isReturned, type ReturnedToken } from './history/minted.ts'
export { outcomesOf, publishAcknowledgements } from './history/outcomes.ts'
export { hasRelayedEvents } from './history/relayed.ts'
export {
  deleteProbes,
  deleteQuarantined,
  deleteReplays,
  type Sweep,
  type SweepPosition,
  sweepHistory,
} from './history/retention.ts'
export { announceSettled, followSettled, type SettledFollower } from './history/settled.ts'
export { findUnnotified } from './history/unnotified.ts'
export { type IssuerLogoutPreview, previewIssuerLogout } from './issuer-logout/counts.ts'
export {
  cancelIssuerLogout,
  failIssuerLogout,
  findIssuerLogout,
  type IssuerLogoutRecord,
  listIssuerLogouts,
} from './issuer-logout/jobs.ts'
export {
  type HandOver,
  type IssuerLogoutJob,
  runningIssuerLogouts,
  type TakenSubjects,
  takeLateSubjects,
  takeSubjects,
} from './issuer-logout/pages.ts'
export { projectIssuerLogouts } from './issuer-logout/projection.ts'
export { noticeExpiringKeys } from './keys/expiry.ts'
export { listSealed, replaceSealed, type SealedSecret } from './keys/sealed.ts'
export {
  changeSigningKeys,
  findKeyRotation,
  findSigningKeys,
  listKeyIssuers,
  type NewSigningKey,
  openKeyStore,
  type SigningKeyChanges,
  type SigningKeyRecord,
} from './keys/signing-keys.ts'
export {
  type AuditFindings,
  type AuditRun,
  deleteAuditRuns,
  findAuditRun,
  listAuditedClients,
  listAuditRuns,
  requestAudits,
} from './logout-audits/audits.ts'
export {
  type AuditedParty,
  type ClaimedAudit,
  claimAudits,
  endAudit,
  endLeftAudits,
  extendAuditLeases,
  listAuditDeliveries,
  listAuditedParties,
  noteAuditEvent,
  startDueAudits,
} from './logout-audits/running.ts'
export {
  type AuditSetupRecord,
  deleteAuditSetup,
  findAuditSetup,
  putAuditSetup,
} from './logout-audits/setups.ts'
export { projectConfirmations } from './notify/confirmation-projection.ts'
export {
  type ClaimedConfirmation,
  type ConfirmationRecord,
  claimConfirmations,
  listConfirmations,
  settleConfirmation,
  type WrittenConfirmation,
  writeConfirmation,
} from './notify/confirmations.ts'
export {
  deleteNotifications,
  fanOutNotifications,
  publishNotifications,
} from './notify/notifications.ts'
export {
  type ClaimedWebhookDelivery,
  claimWebhookDeliveries,
  listWebhookDeliveries,
  settleWebhookDelivery,
  type WebhookDeliveryRecord,
  type WebhookSettlement,
} from './notify/webhook-deliveries.ts'
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
} from './notify/webhooks.ts'
export {
  createDatabase,
  type Database,
  type DatabaseOptions,
  isUnavailable,
  isWrongPassword,
  openDatabase,
  type Queryable,
  type Statement,
  withTransaction,
} from './postgres/database.ts'
export {
  type DeliveryFault,
  isDataFault,
  isRefusal,
  isStatementTimeout,
  type OnDeliveryFault,
} from './postgres/faults.ts'
export { checkServerVersion, createLedgerCheck, migrate, PostgresTooOldError } from './postgres/migrate.ts'
export { createPartitions, dropAttempts, dropAudit, dropReceipts } from './postgres/partitions.ts'
export type { WalkedPage } from './postgres/walk.ts'
export { eraseSubject } from './privacy/erasing.ts'
export {
  claimErasure,
  deleteErasures,
  type ErasureRecord,
  failErasure,
  findErasure,
  findIssEver,
  requestErasure,
} from './privacy/erasures.ts'
export { type EventToday, findToday, findUnreceipted, type Unreceipted } from './receipts/facts.ts'
export { lockReceiptLog, openReceiptLog, type ReceiptLog, readTiles } from './receipts/log.ts'
export {
  findReceipt,
  findReceiptsOfGivenId,
  insertReceipts,
  isReceiptAwaited,
  listReceipts,
  type StoredReceipt,
} from './receipts/receipts.ts'
export { type EndpointHealthRecord, endpointsHealth } from './registry/health.ts'
export { importRelyingParties, type RelyingPartyOutline } from './registry/import.ts'
export { createIssuerNames, type IssuerNames, requestedIssuer } from './registry/issuer-names.ts'
export { openIssuerNetworks } from './registry/issuer-networks.ts'
export {
  type EndpointsOf,
  findIssuer,
  findIssuerNetworkRule,
  type IssuerQuotas,
  type IssuerRecord,
  listIssuers,
  putIssuer,
  removeIssuer,
} from './registry/issuers.ts'
export {
  changeLastReport,
  dropProbe,
  endProbe,
  findLastProbe,
  type ProbeRecord,
  progressProbe,
  startProbe,
} from './registry/probes.ts'
export { putRelyingParties, type RelyingPartyDraft } from './registry/put.ts'
export {
  disableBinding,
  effectiveSettings,
  type KnownIssuer,
  type Registry,
  readRegistry,
  readRegistryRevision,
  type StoredConfirmationSecrets,
  type StoredSettings,
} from './registry/registry.ts'
export { type RelayIssuer, type RelayRegistry, readRelayRegistry } from './registry/relay.ts'
export {
  countWaiting,
  type EndpointRecord,
  findNetworkRulesLeft,
  findRelyingParties,
  findRelyingParty,
  listRelyingParties,
  type RelyingPartyRecord,
  removeRelyingParty,
} from './registry/relying-parties.ts'
export { type StoredTls, toTls } from './registry/stored-tls.ts'
export { applySessions } from './sessions/apply.ts'
export { expireSessions, listSessionPartitions, type SessionPartition } from './sessions/expiry.ts'
export { findSessions, type SessionQuestion } from './sessions/find.ts'
export { countOverlong, worstOverlong } from './sessions/lifetimes.ts'
export { beganBy } from './sessions/order.ts'
export {
  countOrphans,
  listOrphans,
  noticeOrphans,
  type OrphanPosition,
  type OrphanRecord,
} from './sessions/orphans.ts'
export { listOverlong, type OverlongPosition } from './sessions/overlong.ts'
export { oweLateLogouts, projectSessions } from './sessions/projection.ts'
export {
  ENDLESS_GAP,
  enforceSessionQuotas,
  listOverQuota,
  noteBacklogGaps,
  noteGaps,
  type OverQuota,
  type SessionCount,
} from './sessions/quotas.ts'
export {
  listSessionsOfSid,
  listSessionsOfSubject,
  type SessionPosition,
  type SessionRecord,
} from './sessions/sessions.ts'
export {
  listSessionTokens,
  replaceSessionTokens,
  type SealedTokens,
} from './sessions/tokens.ts'
export { notifyOfBurn, seeBurn, watchBurns } from './sla/burns.ts'
export type { SlaFigures, SlaGroups } from './sla/figures.ts'
export { projectSla } from './sla/projection.ts'
export {
  type BurnCounts,
  deleteSlaRollups,
  readPromises,
  type SlaNow,
  type SlaRequest,
  type SlaScope,
  slaBurns,
  slaByHour,
  slaByParty,
  slaFiledUntil,
  slaNow,
} from './sla/sla.ts'
