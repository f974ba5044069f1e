export {
  AUDIT_BEGUN,
  AUDIT_FAILURES,
  AUDIT_OBSTACLES,
  type AuditDelivery,
  type AuditOutcome,
  type AuditReason,
  type AuditState,
  advanceAudit,
  auditPauseMs,
  concludeAudit,
  hasEnded,
  summarizeAuditDeliveries,
  wasSent,
} from './audit/audit.ts'
export {
  AUDIT_EVERY_S,
  AUDIT_TIMEOUT_S,
  type AuditCheck,
  type AuditRefresh,
  type AuditSecrets,
  type AuditSettings,
  type CheckSays,
  type HttpLogin,
  type OidcLogin,
  readCheck,
} from './audit/setup.ts'
export { describeAudit } from './audit/words.ts'
export { allowedBy, type Breaker, breakerAfter, breakerStarted, CLOSED } from './delivery/breaker.ts'
export type { Step, Strategy } from './delivery/channels.ts'
export {
  type ChannelNames,
  DEAD_LETTER_REASONS,
  type DeadLetterWords,
  deadLetterWords,
  type LastAttempt,
  NETWORK,
} from './delivery/dead-letter.ts'
export {
  CLIENT_REMOVED,
  DELIVERY_STATES,
  type DeadLetterReason,
  type DeliveryState,
  disablesBinding,
  hasLapsed,
  type InFlightDelivery,
  isSettled,
  type SettledState,
  type Settlement,
  settle,
  type Tries,
  undeliverable,
} from './delivery/delivery.ts'
export { createRoundRobin, interleave, shareLeft } from './delivery/fair-share.ts'
export { atLeast, LEVEL_MEANINGS, LEVELS, type Level, weaker } from './delivery/level.ts'
export {
  type Answer,
  type AttemptOutcome,
  cleanText,
  errorClassOf,
  errorTextOf,
  failureOf,
  isNotNow,
  quicklyRetryable,
  type TransportFailure,
  type UndeliverableReason,
  unanswered,
  unavailable,
} from './delivery/outcome.ts'
export { type Bucket, burstOf, refilled, shareOf } from './delivery/rate.ts'
export {
  DEFAULT_RETRY_POLICY,
  horizonMs,
  parseRetryAfter,
  QUICK_RETRIES_MS,
  type RetryPolicy,
  retryDelayMs,
} from './delivery/retry.ts'
export {
  AuditSecretError,
  AuthorizationServerUnavailableError,
  ClientKeyError,
  ClientKeysUnavailableError,
  CurfewError,
  EventLogDegradedError,
  EventLogUnavailableError,
  LedgerAlteredError,
  LedgerSchemaError,
  LedgerUnavailableError,
  LogKeyError,
  MessageSealError,
  NoEncryptionKeyError,
  NoSigningKeyError,
  QueryTimeoutError,
  RecordTooLargeError,
  SessionTokensError,
  SignerUnavailableError,
  SigningKeyError,
  WebhookSecretError,
  WrongEventLogError,
} from './errors.ts'
export {
  type BindingId,
  type ClientId,
  type DeliveryId,
  type Digest,
  deliveryId,
  deliveryIdRange,
  type EventId,
  type EventKey,
  eventIdOf,
  eventKeyOf,
  type GivenEventId,
  type GivenIdKey,
  givenIdKeyOf,
  givenIdRange,
  type Issuer,
  type IssuerName,
  messageId,
  NO_ISSUER,
  type RelayedTokenId,
  relayedEventId,
  type Sid,
  type Subject,
  type Target,
  uuidV7,
  type WorkerId,
} from './ids.ts'
export { endsAsFailed, type JobFault, retryPauseMs } from './job-failure.ts'
export {
  clientAlgorithmFault,
  isTokenAlgorithm,
  keyAlgorithmFault,
  keyAlgorithmOf,
  SIGNING_ALGORITHMS,
  type SigningAlgorithm,
  TOKEN_ALGORITHMS,
  type TokenAlgorithm,
} from './keys/algorithms.ts'
export type { TokenSignature } from './keys/forgery.ts'
export { type PemBlock, readCertificatePem, readPem, readPrivateKeyPem, writePem } from './keys/pem.ts'
export {
  CLOCK_SKEW_MS,
  isPublished,
  JWKS_MAX_AGE_MS,
  KEY_LEAD_MS,
  KEY_OVERLAP_MS,
  KEYRING_REFRESH_MS,
  KEYRING_TRUST_MS,
  type KeyLife,
  keyState,
  keyTimes,
  nextKey,
  retirementFault,
  rotation,
  rotationDue,
  signingKey,
  TOKEN_LIFETIME_S,
} from './keys/signing-key.ts'
export {
  CONFIRMATION_DEADLINE_MS,
  CONFIRMATION_DEADLINE_MS_MAX,
  CONFIRMATION_DEADLINE_MS_MIN,
  type Confirmation,
  confirmationOf,
} from './logout/confirmation.ts'
export {
  type IssuerLogout,
  type Lane,
  type LogoutEvent,
  type LogoutReason,
  logKey,
  occurrenceOf,
  type RelayedToken,
  requestedAtOf,
  sameContent,
  widened,
} from './logout/event.ts'
export {
  REASONS_OF_REMOVAL,
  REASONS_WITHOUT_SUCCESSOR,
  type Successor,
  successionOf,
} from './logout/fallback.ts'
export { childOf } from './logout/issuer-logout.ts'
export { narrowingOf, narrowingOfMany } from './logout/narrowing.ts'
export type { OwedDelivery, OwingEvent } from './logout/owed.ts'
export {
  type KnownSessions,
  type PlanBasis,
  plan,
  type RegisteredIssuer,
} from './logout/plan.ts'
export { originOf, type QuarantineKind, type QuarantineState, quarantineFix } from './logout/quarantine.ts'
export type {
  AttemptError,
  DeadLetterRecord,
  DeliveryRecord,
  EventRecord,
  IssuerLogoutProgress,
  NotificationRecord,
  OutcomeRecord,
  StoredAttempt,
} from './logout/records.ts'
export { beganAfter, CLOCKS_APART_MS_MAX, type LiveSession, type Occurrence } from './logout/session-match.ts'
export { type DeliveryProgress, type EventSummary, summarize } from './logout/summary.ts'
export {
  ALL_NOTIFIED,
  type UnnotifiedClients,
  unnotifiedAmong,
  type WithoutDelivery,
} from './logout/unnotified.ts'
export type { CredentialStore, StoredCredentials } from './ports/credential-store.ts'
export {
  type BatchHandler,
  type ConsumedRecord,
  type ConsumeOptions,
  type Consumer,
  type ConsumerStatus,
  type EventLog,
  type LedgerId,
  type LogFault,
  type LogLane,
  type LogRecord,
  type OwnLedger,
  type Quarantine,
  type Quarantined,
  SLOW_BATCHES_MAX,
} from './ports/event-log.ts'
export {
  type EventLogMonitor,
  type EventLogState,
  type LaneState,
  type TopicFault,
  type TopicState,
  topicFaultText,
  WAITING_MAX,
} from './ports/event-log-monitor.ts'
export type { OutgoingRecord, OutgoingTopic, Publisher } from './ports/publisher.ts'
export {
  ERASURE_WATCH_MS,
  type ErasedSubject,
  type InvalidRecord,
  keysOf,
  LATE_START_MS,
  nextErasureLook,
  recordConcerns,
  stringsOf,
} from './privacy/erasure.ts'
export {
  type Checkpoint,
  checkpointText,
  isLogName,
  noteText,
  parseCheckpointText,
  parseNote,
} from './proof/checkpoint.ts'
export {
  appendEntries,
  ENTRY_LEVEL,
  hashesOf,
  hashesOfSpans,
  partialTiles,
  TILE_WIDTH,
  type Tile,
  type TilePlace,
  tilesOfSpans,
} from './proof/log-tiles.ts'
export {
  consistencyPath,
  createPartialTree,
  inclusionPath,
  leafHash,
  type Sha256,
  type Span,
  sameBytes,
  verifyConsistency,
  verifyInclusion,
} from './proof/merkle.ts'
export {
  RECEIPT_SUBJECTS,
  RECEIPT_TYPE,
  type ReceiptClaims,
  type ReceiptSubject,
  receiptClaims,
  type SettledEvent,
  type SettledTarget,
} from './proof/receipt.ts'
export { contradictions } from './proof/receipt-audit.ts'
export {
  type AccessConditions,
  type AccessFilter,
  admits,
  admitsAll,
  conditionsOf,
  EVERYTHING,
} from './registry/access-filter.ts'
export {
  type Binding,
  type BindingTls,
  type ChannelSettings,
  MAIN_ENDPOINT,
  type Names,
  type Offer,
} from './registry/binding.ts'
export {
  type ClientMetadata,
  isDisabledAtIdp,
  isWithoutOAuth,
  type KnownMember,
  type MemberPaths,
  nameOfApplication,
  plainName,
  pointerTo,
  readClient,
  withoutSecrets,
} from './registry/client-metadata.ts'
export {
  CONTENT_ENCRYPTIONS,
  type ContentEncryption,
  DEFAULT_CONTENT_ENCRYPTION,
  ENCRYPTION_ALGORITHMS,
  type EncryptionAlgorithm,
  encryptionFault,
  type TokenEncryption,
} from './registry/encryption.ts'
export type { InspectedTls } from './registry/inspected-tls.ts'
export { mergePatch } from './registry/merge-patch.ts'
export {
  accessName,
  effectiveNetworks,
  issuerNetworkAccess,
  liesWithin,
  mayChangeRule,
  type NetworkAccess,
  type NetworkRank,
  type NetworkRule,
  type NetworkSettings,
  narrowedAccess,
  networkAccess,
  networkLimit,
  ruleAfter,
  ruleAfterRemoval,
} from './registry/networks.ts'
export { DEFAULT_RELAY, type RelaySettings } from './registry/relay.ts'
export {
  isPairwise,
  type PairwiseClients,
  pairwiseClients,
  SUBJECT_TYPES,
  type SubjectType,
  subjectTypeOf,
} from './registry/subject-type.ts'
export {
  isToBeHalved,
  LIFETIME_BUCKETS,
  type Lifetimes,
  lifetimeBucket,
  overlongAfterMs,
} from './session/lifetime.ts'
export {
  mergeStarts,
  netOf,
  type Session,
  type SessionBeginning,
  type SessionChange,
  type SessionChanges,
  type SessionEnd,
  type SessionIndexUse,
  type SessionToken,
  sessionLogKey,
} from './session/session.ts'
export {
  type SessionBinding,
  type SessionDelivery,
  type SessionState,
  sessionStateOf,
} from './session/session-state.ts'
export { decodeHistogram, encodeHistogram, type Histogram, mergeHistograms } from './sla/histogram.ts'
export { LATENCY_ERROR, latencyBucket, latencyQuantile } from './sla/latency-histogram.ts'
export {
  addCounts,
  type BindingPromise,
  type BurnSeverity,
  burning,
  burnRate,
  errorBudget,
  NO_COUNTS,
  type PartyDelivery,
  partyVerdict,
  type SlaCounts,
  type SlaPromise,
  shareKept,
  waitingOf,
  withinPromise,
} from './sla/sla.ts'
export {
  BURN_WINDOWS,
  type BurnWindow,
  burnIntervals,
  intervalsOf,
  SLA_SPANS,
  type SlaInterval,
  type SlaSpan,
  spanEnd,
  spanStart,
} from './sla/spans.ts'
export { type CountKind, sumTicks, type TickCounts, tickNumber } from './sla/ticks.ts'
