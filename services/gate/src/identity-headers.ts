/** Header fields of an answer that lets a request pass. A gateway may copy them to the request. */
const FIELDS = [
  ['x-auth-sub', 'sub'],
  ['x-auth-sid', 'sid'],
  ['x-auth-scope', 'scope'],
] as const

/** Text that means the same in a header field to every reader. */
const PLAIN = /^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/

/**
 * The header fields for the claims of a token. A claim that is absent, is no text, or has other characters than printable ASCII has
 * no field.
 */
export function identityHeaders(claims: Readonly<Record<string, unknown>>): Readonly<Record<string, string>> {
  const headers: Record<string, string> = {}
  for (const [name, claim] of FIELDS) {
    const value = claims[claim]
    if (typeof value === 'string' && PLAIN.test(value)) headers[name] = value
  }
  return headers
}
