/**
 * Base of every error thrown on purpose. What is expected is a value (`AttemptOutcome`, `Settlement`); an error means
 * "I cannot go on". `code` is stable: logs and problem bodies are keyed on it, and it is never renamed.
 */
export abstract class CurfewError extends Error {
  abstract readonly code: `ERR_${string}`

  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = new.target.name
  }
}

/** The event log did not confirm in time. Nothing is promised: post again. Answered 503. */
export class EventLogUnavailableError extends CurfewError {
  override readonly code = 'ERR_EVENT_LOG_UNAVAILABLE'
}

/** The event log takes the logouts that a person waits for, and not all other records. */
export class EventLogDegradedError extends CurfewError {
  override readonly code = 'ERR_EVENT_LOG_DEGRADED'
}

/** The ledger names another event log than the one this service uses: no worker would read what it appends. Answered 503. */
export class WrongEventLogError extends EventLogUnavailableError {}

/**
 * The event log refuses a record for its size, until an operator raises the limit that the message names. Answered 503, because the
 * post was right.
 */
export class RecordTooLargeError extends EventLogUnavailableError {}

/** PostgreSQL could not be reached, or ended the connection. The same call may succeed later. Answered 503. */
export class LedgerUnavailableError extends CurfewError {
  override readonly code = 'ERR_LEDGER_UNAVAILABLE'
}

/** The database has no schema of this release. `curfew migrate` brings it there. */
export class LedgerSchemaError extends CurfewError {
  override readonly code = 'ERR_LEDGER_SCHEMA'
}

/** PostgreSQL gave a statement up: it took longer than any may. A read is answered 504, and may be narrowed. */
export class QueryTimeoutError extends LedgerUnavailableError {}

/** No key can sign for this issuer in this algorithm: it cannot be opened with the master key we were given. */
export class SigningKeyError extends CurfewError {
  override readonly code = 'ERR_SIGNING_KEY'
}

/** The issuer has signing keys of its own, none of them for this algorithm: one of ours, its relying parties would refuse. */
export class NoSigningKeyError extends SigningKeyError {}

/** The private key of a client certificate (mTLS) cannot be opened with the master key we were given. */
export class ClientKeyError extends CurfewError {
  override readonly code = 'ERR_CLIENT_KEY'
}

/** The keys that an RP's tokens are to be encrypted to cannot be fetched from its `jwks_uri`. */
export class ClientKeysUnavailableError extends CurfewError {
  override readonly code = 'ERR_CLIENT_KEYS_UNAVAILABLE'
}

/** An RP wants its tokens encrypted, and has no key that fits. */
export class NoEncryptionKeyError extends CurfewError {
  override readonly code = 'ERR_NO_ENCRYPTION_KEY'
}

/** The signer that has a private key did not answer, or answered with what is no signature of it. Answered 503. */
export class SignerUnavailableError extends CurfewError {
  override readonly code = 'ERR_SIGNER_UNAVAILABLE'
}

/** The keys of an authorization server could not be fetched, so its access tokens cannot be checked. Answered 503. */
export class AuthorizationServerUnavailableError extends CurfewError {
  override readonly code = 'ERR_AUTHORIZATION_SERVER_UNAVAILABLE'
}

/** The secret of a webhook cannot be opened with the master key we were given. */
export class WebhookSecretError extends CurfewError {
  override readonly code = 'ERR_WEBHOOK_SECRET'
}

/** What the ledger holds is not what its log of receipts says it was: somebody altered it. */
export class LedgerAlteredError extends CurfewError {
  override readonly code = 'ERR_LEDGER_ALTERED'
}

/** The keys of the log of receipts cannot be opened with the master key we were given. */
export class LogKeyError extends CurfewError {
  override readonly code = 'ERR_LOG_KEY'
}
