/** The token of a request: the text, or why there is none. */
export type BearerToken =
  | { readonly ok: true; readonly token: string }
  | { readonly ok: false; readonly fault: 'missing' | 'malformed' | 'too_large' }

const BEARER = /^Bearer +([\w\-.~+/]+=*) *$/i

/**
 * Reads the bearer token of a request (RFC 6750 2.1). Tokens in the query and in a body are not read, because they end up in logs.
 *
 * @param headers names and values in turn, as they came: a field that comes twice is not joined.
 */
export function readBearer(headers: readonly string[], bytesMax: number): BearerToken {
  let value: string | null = null
  for (let at = 0; at < headers.length; at += 2) {
    if (headers[at]?.toLowerCase() !== 'authorization') continue
    // The gateway, its upstream and the gate may each take another one of two.
    if (value !== null) return { ok: false, fault: 'malformed' }
    value = headers[at + 1] ?? ''
  }
  if (value === null) return { ok: false, fault: 'missing' }
  const token = BEARER.exec(value)?.[1]
  if (token === undefined) {
    // Other schemes are not for this gate.
    return { ok: false, fault: /^Bearer\b/i.test(value) ? 'malformed' : 'missing' }
  }
  return token.length > bytesMax ? { ok: false, fault: 'too_large' } : { ok: true, token }
}
