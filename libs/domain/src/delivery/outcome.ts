import type { Level } from './level.ts'
import { parseRetryAfter } from './retry.ts'

/** Why an attempt got no answer. All of these may pass. */
export type TransportFailure =
  | 'dns'
  | 'connection_refused'
  | 'connection_reset'
  | 'connect_timeout'
  | 'timeout'
  | 'tls'
  | 'invalid_response'
  /** Curfew's machine could not open a connection. */
  | 'local'
  /** Curfew's own fault: the signing key was unavailable. */
  | 'signer'
  /** Curfew could not fetch the RP's encryption keys. */
  | 'client_keys'

/** Why a delivery cannot be attempted. */
export type UndeliverableReason =
  | 'address_not_allowed'
  | 'binding_disabled'
  | 'client_key_unreadable'
  | 'client_removed'
  | 'no_encryption_key'
  | 'no_signing_key'
  | 'secret_unreadable'
  | 'sid_required'
  | 'sub_required'
  | 'widen_required'
  | 'email_required'
  | 'token_required'
  | 'token_unreadable'

/** The answer to one POST, or why there is none. */
export type Answer =
  | {
      readonly kind: 'response'
      readonly status: number
      readonly retryAfter: string | null
      readonly body: string
      /** The target of a redirect, without secrets; absent if the answer is none. */
      readonly location?: string
      /** The requested headers, with names in lower case. */
      readonly headers?: Readonly<Record<string, string>>
      /**
       * True if the answer came from a private address outside the deployment's networks. Only an unbound admin can allow such an
       * address, so the answer's text is recorded nowhere that a tenant can read.
       */
      readonly restricted?: boolean
    }
  | { readonly kind: 'failure'; readonly failure: TransportFailure; readonly detail: string }
  | { readonly kind: 'not_allowed'; readonly detail: string }

/**
 * The RP's error text, shortened and without control characters. It is for people and never changes a decision (Back-Channel
 * Logout 2.8), unless the owner of the RP registered its meaning.
 */
export interface ErrorText {
  readonly error: string | null
  readonly errorDescription: string | null
  /** The target of a redirect, without secrets; absent if the answer is none, or is withheld. */
  readonly location?: string
}

/** The outcome of one attempt. A value, not an error, because every kind is expected. */
export type AttemptOutcome =
  | {
      readonly kind: 'acknowledged'
      readonly level: Level
      /** HTTP status; null if the channel has none. */
      readonly status: number | null
      /** A code for a further statement of the answer, such as `unknown_user` or `already_ended`. */
      readonly note?: string
    }
  | (ErrorText & {
      readonly kind: 'unavailable'
      readonly status: number | null
      readonly failure: TransportFailure | null
      readonly retryAfterMs: number | null
    })
  | (ErrorText & { readonly kind: 'refused' | 'misconfigured'; readonly status: number })
  | { readonly kind: 'undeliverable'; readonly reason: UndeliverableReason; readonly detail: string }

/** The outcome of an attempt without a response. It is the same for all channels. */
export function unanswered(answer: Exclude<Answer, { kind: 'response' }>): AttemptOutcome {
  if (answer.kind === 'not_allowed')
    return { kind: 'undeliverable', reason: 'address_not_allowed', detail: cleanText(answer.detail) ?? '' }
  return {
    kind: 'unavailable',
    status: null,
    failure: answer.failure,
    retryAfterMs: null,
    error: null,
    errorDescription: cleanText(answer.detail),
  }
}

/** The kind of the failure, in one word: of the network, of the answer, or our own. */
export function errorClassOf(outcome: AttemptOutcome): string | null {
  switch (outcome.kind) {
    case 'acknowledged':
      return null
    case 'unavailable':
      return outcome.failure ?? `http_${outcome.status}`
    case 'undeliverable':
      return outcome.reason
    case 'refused':
    case 'misconfigured':
      return `http_${outcome.status}`
  }
}

/** Whether a status means "not now" (RFC 9110, RFC 8470, RFC 6585): 408, 425, 429, and every 5xx except 501. */
export function isNotNow(status: number): boolean {
  return status === 408 || status === 425 || status === 429 || (status >= 500 && status !== 501)
}

/** The outcome of a response with a "not now" status. */
export function unavailable(answer: Extract<Answer, { kind: 'response' }>, now: Date): AttemptOutcome {
  const retryAfterMs = parseRetryAfter(answer.retryAfter, now)
  return { kind: 'unavailable', status: answer.status, failure: null, retryAfterMs, ...errorTextOf(answer) }
}

/**
 * The outcome of an answer that acknowledges nothing: retried, refused or misconfigured.
 *
 * @param refusals the statuses by which the protocol refuses one message; any other is a fault of the endpoint.
 */
export function failureOf(answer: Answer, now: Date, refusals: readonly number[]): AttemptOutcome {
  if (answer.kind !== 'response') return unanswered(answer)
  const { status } = answer
  if (isNotNow(status)) return unavailable(answer, now)
  return { kind: refusals.includes(status) ? 'refused' : 'misconfigured', status, ...errorTextOf(answer) }
}

/** Whether an outcome gets one of the two quick retries: transport failures and 5xx, unless the RP sent a `Retry-After`. */
export function quicklyRetryable(outcome: AttemptOutcome): boolean {
  if (outcome.kind !== 'unavailable' || outcome.retryAfterMs !== null) return false
  return outcome.status === null || outcome.status >= 500
}

/** The error text of an answer for people, or a note that it is withheld. */
export function errorTextOf({
  body,
  location,
  restricted = false,
}: Pick<Extract<Answer, { kind: 'response' }>, 'body' | 'location' | 'restricted'>): ErrorText {
  return restricted ? WITHHELD : { ...readSaid(body), ...(location !== undefined && { location }) }
}

const WITHHELD: ErrorText = {
  error: null,
  errorDescription:
    'the text of the answer is withheld, because it came from a network outside CURFEW_ALLOWED_NETWORKS',
}
const SAID_LENGTH_MAX = 500

/** The error text in the body of an answer. */
function readSaid(body: string): ErrorText {
  let parsed: unknown
  try {
    parsed = JSON.parse(body)
  } catch {
    // Not JSON, such as a proxy's error page. Its first characters still help the owner.
    return { error: null, errorDescription: cleanText(body) }
  }
  if (typeof parsed !== 'object' || parsed === null) return { error: null, errorDescription: cleanText(body) }
  const { error, error_description } = parsed as Record<string, unknown>
  // JSON without OAuth's members, such as a framework's error body, is shown as it is.
  if (typeof error !== 'string' && typeof error_description !== 'string') {
    return { error: null, errorDescription: cleanText(body) }
  }
  return {
    error: typeof error === 'string' ? cleanText(error) : null,
    errorDescription: typeof error_description === 'string' ? cleanText(error_description) : null,
  }
}

/** Makes external text safe to store and to show: well formed, without control characters, short. Null if nothing is left. */
export function cleanText(text: string): string | null {
  const cleaned = text
    .slice(0, SAID_LENGTH_MAX * 2)
    .toWellFormed()
    .replace(/[\p{Cc}\p{Cf}\u2028\u2029]+/gu, ' ')
    .trim()
    .slice(0, SAID_LENGTH_MAX)
    .toWellFormed()
  return cleaned === '' ? null : cleaned
}
