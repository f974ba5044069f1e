import type { JWTPayload } from 'jose'

/** Claims that mark other kinds of token. They are refused if `typ` does not identify an access token (RFC 8725 3.11, 3.12). */
const CLAIMS_OF_OTHERS = ['nonce', 'at_hash', 'events']

/** Whether a verified JWT is an access token. @param anyType accepts a `typ` that is not `at+jwt` (RFC 9068 2.1). */
export function isAccessToken(
  payload: JWTPayload,
  typ: string | undefined,
  { anyType }: { readonly anyType: boolean },
): boolean {
  if (typ !== undefined && /^(?:application\/)?at\+jwt$/i.test(typ)) return true
  return anyType && !CLAIMS_OF_OTHERS.some((claim) => claim in payload)
}
