export {
  Accepted,
  AcceptedOrRejected,
  Attempt,
  DeliveriesQuery,
  Delivery,
  DeliveryWithAttempts,
  EventSummary,
  Jwks,
  LogoutEventStatus,
  PageQuery,
  type Problem,
  page,
  SCOPES,
  type Scope,
} from './api.ts'
export { ApiKey, ApiKeyInput, NewApiKey } from './api-keys.ts'
export {
  ApiError,
  type Client,
  type ClientOptions,
  createClient,
  type DeadLettersFilter,
  type OrphansFilter,
  type Page,
  type QuarantineFilter,
  type Readiness,
  type SessionsFilter,
  type SlaFilter,
} from './client.ts'
export { clientIdIn } from './client-id.ts'
export {
  DEAD_LETTER_TYPE,
  type DeadLetterFacts,
  encodeDeadLetter,
  type PublishedDeadLetter,
} from './dead-letter-record.ts'
export {
  AuditEntry,
  DeadLetter,
  DeadLettersQuery,
  DeadLetterWithAttempts,
  Replay,
  type ReplayFilter,
  ReplayInput,
  ReplayPreview,
} from './dead-letters.ts'
export { Erasure, ErasureParams, ErasureQuery } from './erasures.ts'
export { EventLogView } from './event-log.ts'
export {
  IssuerLogout,
  IssuerLogoutPreview,
  IssuerLogoutsQuery,
} from './issuer-logouts.ts'
export {
  KeysCheck,
  RetireInput,
  RotateInput,
  SigningKey,
  SigningKeyInput,
  SigningKeys,
} from './keys.ts'
export {
  decodeLogoutEvent,
  encodeLogoutEvent,
  fromAccepted,
  LOGOUT_EVENT_TYPE,
  parseInstant,
  type Unreadable,
} from './log-record.ts'
export { AcceptedLogoutEvent, IssuerQuery, LogoutEventInput } from './logout-event.ts'
export { encodeNotification } from './notification-record.ts'
export { encodeOutcome, OUTCOME_TYPE, type OutcomeFacts, type PublishedOutcome } from './outcome-record.ts'
export { Probe, ProbeFindings, ProbeInput } from './probe.ts'
export { QuarantinedContent, QuarantinedRecord, QuarantineQuery } from './quarantine.ts'
export {
  AuditedReceipt,
  ConsistencyProof,
  InclusionProof,
  LogAudit,
  LogEntries,
  LogEntry,
  LogKeys,
  ReceiptBundle,
} from './receipts.ts'
export {
  Imported,
  type ImportFault,
  Issuer,
  IssuerInput,
  RelyingParty,
  RelyingPartyHealth,
  RelyingPartyInput,
  RelyingPartyPatch,
  RelyingPartySettings,
  Removed,
} from './registry.ts'
export {
  decodeSessionRecord,
  encodeSessionEnd,
  encodeSessionStart,
  SESSION_ENDED_TYPE,
  SESSION_STARTED_TYPE,
  type SessionStamp,
} from './session-record.ts'
export {
  AcceptedSession,
  AcceptedSessionEnd,
  OrphanedSession,
  OrphansQuery,
  Session,
  SessionAccepted,
  SessionAcceptedOrRejected,
  SessionEndQuery,
  SessionInput,
  SessionsQuery,
  sessionsPath,
} from './sessions.ts'
export { Sla, SlaGroup, SlaQuery } from './sla.ts'
export {
  type DeliveryFacts,
  deliveryView,
  type EventFacts,
  eventPath,
  eventView,
  issuerLogoutPath,
  summaryView,
} from './views.ts'
export {
  NOTIFICATION_TYPES,
  type NotificationFacts,
  notificationBody,
  RotateSecretInput,
  Webhook,
  WebhookDeliveriesQuery,
  WebhookDelivery,
  WebhookInput,
  WebhookTest,
} from './webhooks.ts'
