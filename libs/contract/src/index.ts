export { ApiKey, ApiKeyInput, NewApiKey, OwnCredential } from './api/api-keys.ts'
export {
  Audit,
  AuditSetup,
  AuditSetupInput,
  Audits,
  AuditsInput,
  AuditsQuery,
} from './api/audits.ts'
export { clientIdIn } from './api/client-id.ts'
export {
  Accepted,
  AcceptedOrRejected,
  DeliveriesQuery,
  Delivery,
  DeliveryWithAttempts,
  EventSummary,
  Jwks,
  type LastError,
  LogoutEventStatus,
  PageQuery,
  type Problem,
  page,
  SCOPES,
  type Scope,
} from './api/common.ts'
export {
  Confirmation,
  ConfirmationsQuery,
  confirmationBody,
  confirmationMessage,
} from './api/confirmations.ts'
export {
  AuditEntry,
  DeadLetter,
  type DeadLetterFilterInput,
  DeadLettersQuery,
  DeadLetterWithAttempts,
  Replay,
  ReplayInput,
  ReplayPreview,
} from './api/dead-letters.ts'
export { API_DESCRIPTION, API_TAGS } from './api/description.ts'
export { Erasure, ErasureParams, ErasureQuery } from './api/erasures.ts'
export { EventLogView } from './api/event-log.ts'
export { parseInstant } from './api/instant.ts'
export {
  IssuerLogout,
  IssuerLogoutPreview,
  IssuerLogoutsQuery,
} from './api/issuer-logouts.ts'
export {
  AddedKey,
  KeysCheck,
  RetireInput,
  RotateInput,
  SigningKey,
  SigningKeyInput,
  SigningKeys,
} from './api/keys.ts'
export { AcceptedLogoutEvent, IssuerQuery, LogoutEventInput } from './api/logout-event.ts'
export { Probe, ProbeFindings, ProbeInput, ProbeSession, ProbeSessionInput } from './api/probe.ts'
export { QuarantinedContent, QuarantinedRecord, QuarantineQuery } from './api/quarantine.ts'
export {
  AuditedReceipt,
  ConsistencyProof,
  InclusionProof,
  LogAudit,
  LogEntries,
  LogEntry,
  LogKeys,
  ReceiptBundle,
} from './api/receipts.ts'
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
} from './api/registry.ts'
export { readRelayAddress, relayAddress, relayTemplate } from './api/relay.ts'
export { ResourceServer, ResourceServerInput } from './api/resource-servers.ts'
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
} from './api/sessions.ts'
export { Sla, SlaGroup, SlaQuery } from './api/sla.ts'
export {
  deliveryView,
  eventPath,
  eventView,
  issuerLogoutPath,
  lastErrorView,
  summaryView,
  withoutWords,
} from './api/views.ts'
export {
  notificationBody,
  RotateSecretInput,
  Webhook,
  WebhookDeliveriesQuery,
  WebhookDelivery,
  WebhookInput,
  WebhookTest,
} from './api/webhooks.ts'
export { encodeDeadLetter } from './records/dead-letter.ts'
export { DESTINATIONS, decodeLogoutEvent, encodeLogoutEvent, logoutEventOf } from './records/log.ts'
export { encodeNotification } from './records/notification.ts'
export { encodeOutcome } from './records/outcome.ts'
export { decodeSessionRecord, encodeSessionEnd, encodeSessionStart } from './records/session.ts'
