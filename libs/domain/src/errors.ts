/**
 * Base of every error that Curfew throws on purpose. An error means that the caller cannot go on; expected results are values
 * (`AttemptOutcome`, `Settlement`). `code` is stable and never renamed, because logs and problem bodies are keyed on it.
 */
export abstract class CurfewError extends Error {
  abstract readonly code: `ERR_${string}`

  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = new.target.name
  }
}

/** The event log did not confirm an append in time. The records may be missing, so the caller posts again. Answered 503. */
export class EventLogUnavailableError extends CurfewError {
  override readonly code = 'ERR_EVENT_LOG_UNAVAILABLE'
}

/** The event log accepts interactive logouts, but not the records of every other lane. */
export class EventLogDegradedError extends CurfewError {
  override readonly code = 'ERR_EVENT_LOG_DEGRADED'
}

/** The ledger names another event log than this service uses. No worker would read the records appended here. Answered 503. */
export class WrongEventLogError extends EventLogUnavailableError {}

/**
 * The event log refuses a record because of its size, until an operator raises the limit that the message names. Answered 503,
 * because the post was valid.
 */
export class RecordTooLargeError extends EventLogUnavailableError {}

/** PostgreSQL could not be reached, or ended the connection. The same call may succeed later. Answered 503. */
export class LedgerUnavailableError extends CurfewError {
  override readonly code = 'ERR_LEDGER_UNAVAILABLE'
}

/** The schema of the database is not the schema of this release. `curfew migrate` applies the missing migrations. */
export class LedgerSchemaError extends CurfewError {
  override readonly code = 'ERR_LEDGER_SCHEMA'
}

/** PostgreSQL cancelled a statement that exceeded the time limit. A read is answered 504; a narrower filter may succeed. */
export class QueryTimeoutError extends LedgerUnavailableError {}

/** No key can sign for this issuer in this algorithm, because the configured master key does not open it. */
export class SigningKeyError extends CurfewError {
  override readonly code = 'ERR_SIGNING_KEY'
}

/** The issuer has its own signing keys, but none for this algorithm. Its relying parties would refuse a key of Curfew. */
export class NoSigningKeyError extends SigningKeyError {}

/** The configured master key does not open the private key of a client certificate (mTLS). */
export class ClientKeyError extends CurfewError {
  override readonly code = 'ERR_CLIENT_KEY'
}

/** The first message of a delivery cannot be opened with the master key. The attempt makes its own message instead. */
export class MessageSealError extends CurfewError {
  override readonly code = 'ERR_MESSAGE_SEAL'
}

/** The tokens of a session cannot be opened with the master key. They are not revoked until the right key is set. */
export class SessionTokensError extends CurfewError {
  override readonly code = 'ERR_SESSION_TOKENS'
}

/** Curfew could not fetch an RP's encryption keys from its `jwks_uri`. */
export class ClientKeysUnavailableError extends CurfewError {
  override readonly code = 'ERR_CLIENT_KEYS_UNAVAILABLE'
}

/** An RP registered for encrypted tokens, but has no suitable key. */
export class NoEncryptionKeyError extends CurfewError {
  override readonly code = 'ERR_NO_ENCRYPTION_KEY'
}

/** The remote signer that holds a private key did not answer, or its answer is no signature of that key. Answered 503. */
export class SignerUnavailableError extends CurfewError {
  override readonly code = 'ERR_SIGNER_UNAVAILABLE'
}

/** Curfew could not fetch the keys of an authorization server, so it cannot check access tokens. Answered 503. */
export class AuthorizationServerUnavailableError extends CurfewError {
  override readonly code = 'ERR_AUTHORIZATION_SERVER_UNAVAILABLE'
}

/** The configured master key does not open the secret of a webhook. */
export class WebhookSecretError extends CurfewError {
  override readonly code = 'ERR_WEBHOOK_SECRET'
}

/** The configured master key does not open the secrets of a logout audit's set-up. */
export class AuditSecretError extends CurfewError {
  override readonly code = 'ERR_AUDIT_SECRET'
}

/** The ledger contradicts its receipt log: a row was altered. */
export class LedgerAlteredError extends CurfewError {
  override readonly code = 'ERR_LEDGER_ALTERED'
}

/** The configured master key does not open the keys of the receipt log. */
export class LogKeyError extends CurfewError {
  override readonly code = 'ERR_LOG_KEY'
}
