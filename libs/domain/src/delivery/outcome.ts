import type { Level } from './level.ts'
import { parseRetryAfter } from './retry.ts'

/** Why no answer came. Each is the network's or the peer's doing, and may pass. */
export type TransportFailure =
  | 'dns'
  | 'connection_refused'
  | 'connection_reset'
  | 'connect_timeout'
  | 'timeout'
  | 'tls'
  | 'invalid_response'
  /** Ours: the signing key could not be had just now. */
  | 'signer'
  /** The RP's keys, which its tokens are encrypted to, could not be fetched. */
  | 'client_keys'

/** Why a delivery cannot even be tried. */
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

/** What came back from one POST. */
export type Answer =
  | {
      readonly kind: 'response'
      readonly status: number
      readonly retryAfter: string | null
      readonly body: string
      /** In lower case; only where they were asked for. */
      readonly headers?: Readonly<Record<string, string>>
      /**
       * It came from a private address beyond the deployment's own networks. Only an unbound admin could send anything there,
       * so its words are recorded nowhere that a tenant reads.
       */
      readonly restricted?: boolean
    }
  | { readonly kind: 'failure'; readonly failure: TransportFailure; readonly detail: string }
  | { readonly kind: 'not_allowed'; readonly detail: string }

/** What the RP said of a refusal, capped and without control characters. For people: it never changes a decision (Back-Channel Logout 2.8). */
export interface Said {
  readonly error: string | null
  readonly errorDescription: string | null
}

/** What one attempt came to. A value, not an error: every member is expected. */
export type AttemptOutcome =
  | {
      readonly kind: 'acknowledged'
      readonly level: Level
      /** HTTP status; null where the channel has none. */
      readonly status: number | null
      /** One machine word for what else the answer said, such as `unknown_user`. */
      readonly note?: string
    }
  | (Said & {
      readonly kind: 'unavailable'
      readonly status: number | null
      readonly failure: TransportFailure | null
      readonly retryAfterMs: number | null
    })
  | (Said & { readonly kind: 'refused' | 'misconfigured'; readonly status: number })
  | { readonly kind: 'undeliverable'; readonly reason: UndeliverableReason; readonly detail: string }

/** What it means that no response came, whatever the channel. */
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

/** Whether a status says "not now" (RFC 9110, RFC 8470, RFC 6585): 408, 425, 429, and every 5xx but 501. */
export function saysNotNow(status: number): boolean {
  return status === 408 || status === 425 || status === 429 || (status >= 500 && status !== 501)
}

/** The outcome of a response that says "not now". */
export function unavailable(answer: Extract<Answer, { kind: 'response' }>, now: Date): AttemptOutcome {
  const retryAfterMs = parseRetryAfter(answer.retryAfter, now)
  return { kind: 'unavailable', status: answer.status, failure: null, retryAfterMs, ...saidOf(answer) }
}

/** Whether an outcome is worth one of the two quick retries: transport failures and 5xx, unless the RP named its own time. */
export function quicklyRetryable(outcome: AttemptOutcome): boolean {
  if (outcome.kind !== 'unavailable' || outcome.retryAfterMs !== null) return false
  return outcome.status === null || outcome.status >= 500
}

/** The words of an answer, for people; or that they are withheld. */
export function saidOf({ body, restricted = false }: { body: string; restricted?: boolean }): Said {
  return restricted ? WITHHELD : readSaid(body)
}

const WITHHELD: Said = {
  error: null,
  errorDescription: 'its words are withheld: it answered from a network beyond CURFEW_ALLOWED_NETWORKS',
}
const SAID_LENGTH_MAX = 500

/** What an answer's body says, for people. */
function readSaid(body: string): Said {
  let parsed: unknown
  try {
    parsed = JSON.parse(body)
  } catch {
    // Not JSON, as most proxies' error pages: its first words are still what an owner wants to see.
    return { error: null, errorDescription: cleanText(body) }
  }
  if (typeof parsed !== 'object' || parsed === null) return { error: null, errorDescription: cleanText(body) }
  const { error, error_description } = parsed as Record<string, unknown>
  // JSON of another make, as frameworks' own error bodies are: shown as it is.
  if (typeof error !== 'string' && typeof error_description !== 'string') {
    return { error: null, errorDescription: cleanText(body) }
  }
  return {
    error: typeof error === 'string' ? cleanText(error) : null,
    errorDescription: typeof error_description === 'string' ? cleanText(error_description) : null,
  }
}

/** Text from outside, made safe to keep and to show: well formed, without control characters, short. Null when nothing is left. */
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
