import type { Answer } from '@curfew/domain'
import type { Fault } from '../channel.ts'

// Relying parties that answer 400 for a session that they do not know, against Back-Channel Logout section 2.7. Their owner
// registers the `error` of this answer as `curfew.already_ended_errors`. No other text of an answer changes a decision.

/** The note of an acknowledgement by a registered `error`. */
export const ALREADY_ENDED = 'already_ended'

type Response = Extract<Answer, { kind: 'response' }>

/**
 * The member `error` of a JSON answer, as the relying party wrote it; null without one. A withheld text has none: a setting would
 * otherwise let a tenant guess it. Two members have none either, because parsers differ on which one counts (RFC 8259 section 4).
 */
export function errorCodeOf({
  body,
  restricted = false,
}: Pick<Response, 'body' | 'restricted'>): string | null {
  if (restricted) return null
  let parsed: unknown
  try {
    parsed = JSON.parse(body)
  } catch {
    // Not JSON, such as a proxy's error page.
    return null
  }
  if (typeof parsed !== 'object' || parsed === null || !('error' in parsed)) return null
  return typeof parsed.error === 'string' && errorMembers(body) === 1 ? parsed.error : null
}

/** The number of members `error` of a JSON object. @param json its text, which is valid. */
function errorMembers(json: string): number {
  let [depth, count, name] = [0, 0, '']
  for (const [token] of json.matchAll(/"(?:[^"\\]|\\.)*"|[{}[\]:]/g)) {
    if (token === '{' || token === '[') depth += 1
    else if (token === '}' || token === ']') depth -= 1
    else if (token !== ':') name = token
    else if (depth === 1 && JSON.parse(name) === 'error') count += 1
  }
  return count
}

/** Whether an `error` is a text that `curfew.already_ended_errors` accepts: short, well formed and without control characters. */
export function isRegistrable(error: string): boolean {
  return /^[^\p{Cc}\p{Cs}]{1,255}$/u.test(error)
}

/** Whether a 400 has a registered `error`, character by character. The `error_description` is not compared. */
export function saysAlreadyEnded(answer: Response, errors: readonly string[]): boolean {
  if (answer.status !== 400 || errors.length === 0) return false
  const error = errorCodeOf(answer)
  return error !== null && errors.includes(error)
}

/** The codes of OAuth 2.0 (RFC 6749 sections 4.1.2.1 and 5.2, RFC 6750 section 3.1) for a request that is refused or failed. */
const OAUTH_ERRORS = [
  'access_denied',
  'insufficient_scope',
  'invalid_client',
  'invalid_grant',
  'invalid_request',
  'invalid_scope',
  'invalid_token',
  'server_error',
  'temporarily_unavailable',
  'unauthorized_client',
  'unsupported_grant_type',
  'unsupported_response_type',
]
/** Values by which libraries and frameworks refuse a token, or report a logout that failed. */
const FAILURES = [
  'application_error',
  'bad_request',
  'error',
  'expired_token',
  'failed',
  'failure',
  'forbidden',
  'internal_error',
  'internal_server_error',
  'invalid_aud',
  'invalid_audience',
  'invalid_iss',
  'invalid_issuer',
  'invalid_jwt',
  'invalid_logout_request',
  'invalid_logout_token',
  'invalid_signature',
  'logout_failed',
  'not_found',
  'partial_logout',
  'token_expired',
  'unauthorized',
  'unknown_error',
  'unsupported_algorithm',
]
const REFUSALS: ReadonlySet<string> = new Set([...OAUTH_ERRORS, ...FAILURES].map(lettersOf))

/** The letters and digits of an `error`. Programs write one error as `invalid_token`, `Invalid token` or `InvalidToken`. */
function lettersOf(error: string): string {
  return error.toLowerCase().replaceAll(/[^a-z0-9]/g, '')
}

/** Whether an `error` is the usual one for a refused token or a failed logout. Read as "already ended", it would hide lost logouts. */
export function isRefusal(error: string): boolean {
  return REFUSALS.has(lettersOf(error))
}

/** The faults of `curfew.already_ended_errors`. */
export function alreadyEndedFaults(errors: readonly string[]): readonly Fault[] {
  return errors.flatMap((error, index) => {
    if (!isRefusal(error)) return []
    const detail = `must not be ${error}: relying parties answer it to a token that they cannot verify, or when a logout failed, so Curfew would take lost logouts for delivered ones. Let the relying party answer 200 if the session is over, or another error that it uses for nothing else`
    return [{ pointer: `/curfew/already_ended_errors/${index}`, detail }]
  })
}
