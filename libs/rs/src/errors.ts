/** The feed says nothing about a token with these claims. The token must be refused. */
export class ClaimsError extends Error {
  override name = 'ClaimsError'
  readonly claim: 'iss' | 'sid' | 'sub'

  constructor(claim: 'iss' | 'sid' | 'sub', message: string) {
    super(message)
    this.claim = claim
  }
}

/** Curfew gave no answer, or an error. `retryAfterMs` is how long it asks to be left alone; null if it does not say. */
export class FeedUnavailableError extends Error {
  override name = 'FeedUnavailableError'
  readonly retryAfterMs: number | null

  constructor(
    message: string,
    { cause, retryAfterMs = null }: { cause?: unknown; retryAfterMs?: number | null } = {},
  ) {
    super(message, { cause })
    this.retryAfterMs = retryAfterMs
  }
}

/** An answer that is not used: not signed by the issuer, malformed, or the answer to another question. */
export class AnswerRefusedError extends Error {
  override name = 'AnswerRefusedError'
}

/** The authorization server gave no usable answer about a token. */
export class IntrospectionError extends Error {
  override name = 'IntrospectionError'
}

/**
 * Why a request is denied. `revoked`: a logout ended the token. `stale`: logouts may be missing, and the route denies then. `inactive`:
 * the authorization server says that the token is not active. `introspection_failed`: it did not say. `claims`: the feed says nothing
 * about such a token. `invalid`: the token was not accepted at all, as `cause` says.
 */
export type DeniedReason = 'invalid' | 'revoked' | 'stale' | 'inactive' | 'introspection_failed' | 'claims'

const DESCRIPTIONS: Readonly<Record<DeniedReason, string>> = {
  invalid: 'the token is not valid',
  revoked: 'the token was ended by a logout',
  stale: 'it is not known whether the token was ended by a logout',
  inactive: 'the token is not active',
  introspection_failed: 'it is not known whether the token was ended by a logout',
  claims: 'the token is not of this issuer, or its claims are malformed',
}

/** The reasons that say nothing against the token. A 401 would make the client drop it, so an outage would log everybody out. */
const UNKNOWN: readonly DeniedReason[] = ['stale', 'introspection_failed']
const RETRY_AFTER_S = 5

/**
 * A denied request: 401 (RFC 6750 3.1), or 503 while it is not known whether a logout ended the token. Express and Fastify answer it by
 * themselves: they take the status and the headers of the error. The message has neither the token nor its subject.
 */
export class DeniedError extends Error {
  override name = 'DeniedError'
  readonly code: 'invalid_token' | 'temporarily_unavailable'
  readonly reason: DeniedReason
  /** The status for Express. */
  readonly status: 401 | 503
  /** The status for Fastify. */
  readonly statusCode: 401 | 503
  readonly headers: Readonly<Record<string, string>>

  constructor(reason: DeniedReason, options?: { readonly cause?: unknown }) {
    super(DESCRIPTIONS[reason], options)
    this.reason = reason
    const unknown = UNKNOWN.includes(reason)
    this.code = unknown ? 'temporarily_unavailable' : 'invalid_token'
    this.status = unknown ? 503 : 401
    this.statusCode = this.status
    this.headers = unknown
      ? { 'Retry-After': String(RETRY_AFTER_S) }
      : { 'WWW-Authenticate': `Bearer error="invalid_token", error_description="${DESCRIPTIONS[reason]}"` }
  }
}
