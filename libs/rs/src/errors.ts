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
