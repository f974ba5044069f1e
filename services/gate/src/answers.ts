import type { BearerTokenFault } from '@curfew/tokens'

/** The result of a check, as metrics count it. */
export type Result =
  | 'passed'
  | 'revoked'
  | 'invalid'
  | 'missing'
  | 'malformed'
  | 'stale'
  | 'inactive'
  | 'unavailable'

/** The answer to a gateway. */
export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

const COMMON = { 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' }

export function passed(headers: Readonly<Record<string, string>>): Answer {
  return { status: 200, headers: { ...COMMON, ...headers, 'content-length': '0' }, body: '' }
}

/** Prepares a refusal. Gateways may show its body to the client. */
function refused(status: number, title: string, detail: string, headers: object): Answer {
  const body = JSON.stringify({ type: 'about:blank', title, status, detail })
  const length = String(Buffer.byteLength(body))
  return {
    status,
    headers: { ...COMMON, ...headers, 'content-type': 'application/problem+json', 'content-length': length },
    body,
  }
}

const unauthorized = (detail: string, challenge: string) =>
  refused(401, 'Unauthorized', detail, { 'www-authenticate': challenge })
const invalid = (detail: string) => unauthorized(detail, 'Bearer error="invalid_token"')
const unavailable = (detail: string) => refused(503, 'Service Unavailable', detail, { 'retry-after': '5' })

/** No token: the challenge has no error (RFC 6750 3.1). */
export const MISSING = unauthorized('Send an access token: Authorization: Bearer ….', 'Bearer')
export const MALFORMED = refused(400, 'Bad Request', 'Send one Authorization header, of the form Bearer ….', {
  'www-authenticate': 'Bearer error="invalid_request"',
})
export const TOO_LARGE = invalid('The token is larger than this gate accepts.')
export const REVOKED = invalid('A logout ended this token.')
export const OUTLIVED = invalid('The token is older than the time for which logouts are kept.')
export const INACTIVE = invalid('The issuer says that this token is not active.')
/** Not a 401: the token may be good, and a client that gets a 401 throws it away. */
export const STALE = unavailable('It is not known at the moment whether a logout ended this token.')
export const KEYS_UNAVAILABLE = unavailable('The keys of the issuer are not known at the moment.')
export const INTROSPECTION_UNAVAILABLE = unavailable(
  'The issuer does not say at the moment whether this token is active.',
)
export const FAILED = refused(
  500,
  'Internal Server Error',
  'This is an error in Curfew. Its log has the cause.',
  {},
)

const FAULTS: Readonly<Record<BearerTokenFault, string>> = {
  not_jwt: 'The token is no JWT.',
  algorithm: 'The algorithm of the token is not allowed.',
  key: 'The issuer publishes no key for the token.',
  signature: 'The signature of the token is wrong.',
  issuer: 'The token is of another issuer.',
  audience: 'The token is for another audience.',
  expired: 'The token has expired.',
  not_yet_valid: 'The token is not valid yet.',
  type: 'The token is no access token (typ is not at+jwt).',
  claims: 'A claim of the token is missing or malformed.',
}

/** The answer for each fault of a token. */
export const INVALID = Object.fromEntries(
  Object.entries(FAULTS).map(([fault, detail]) => [fault, invalid(detail)]),
) as Readonly<Record<BearerTokenFault, Answer>>
