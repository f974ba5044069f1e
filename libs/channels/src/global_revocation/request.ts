import type { InFlightDelivery, UndeliverableReason } from '@curfew/domain'
import type { GlobalRevocationSettings } from './settings.ts'

/** The `typ` of a signed credential (Okta Universal Logout). */
export const CREDENTIAL_TYPE = 'global-token-revocation+jwt'
/** The lifetime of a credential, and how far the receiver's clock may be behind, in seconds. */
const LIFETIME_S = 300

/** Claims of a signed credential (Okta Universal Logout). Times in seconds since 1970. */
export interface CredentialClaims {
  readonly iss: string
  readonly sub: string
  readonly aud: string
  readonly iat: number
  readonly nbf: number
  readonly exp: number
  readonly jti: string
}

/** The claims of the credential for one request: valid for this endpoint only, with a new `jti` for each request. */
export function credentialClaims({
  iss,
  app,
  uri,
  now,
  jti,
}: {
  readonly iss: string
  readonly app: string
  readonly uri: string
  readonly now: Date
  readonly jti: string
}): CredentialClaims {
  const iat = Math.floor(now.getTime() / 1_000)
  return { iss, sub: app, aud: audienceOf(uri), iat, nbf: iat - LIFETIME_S, exp: iat + LIFETIME_S, jti }
}

/** The URL of the endpoint without query and fragment, unchanged otherwise. */
function audienceOf(uri: string): string {
  return uri.replace(/[?#].*$/s, '')
}

/** A user as a Subject Identifier (RFC 9493 section 3.2). */
type SubjectIdentifier =
  | { readonly format: 'iss_sub'; readonly iss: string; readonly sub: string }
  | { readonly format: 'email'; readonly email: string }
  | { readonly format: 'opaque'; readonly id: string }

/** The user of an event in the format of the endpoint, or the reason if the event lacks the identifier. Nothing is guessed. */
export function subjectOf(
  { iss, sub, email }: Pick<InFlightDelivery['event'], 'iss' | 'sub' | 'email'>,
  { subject }: Pick<GlobalRevocationSettings, 'subject'>,
): SubjectIdentifier | Extract<UndeliverableReason, 'sub_required' | 'email_required'> {
  if (subject === 'email') return email === undefined ? 'email_required' : { format: 'email', email }
  if (sub === null) return 'sub_required'
  return subject === 'opaque' ? { format: 'opaque', id: sub } : { format: 'iss_sub', iss, sub }
}

/** The body of a request, with exactly one member (Global Token Revocation section 3.1). */
export function bodyOf(identifier: object, { member }: Pick<GlobalRevocationSettings, 'member'>): string {
  return JSON.stringify({ [member]: identifier })
}

export function headersOf(credential: string): Readonly<Record<string, string>> {
  return {
    authorization: `Bearer ${credential}`,
    'content-type': 'application/json',
    accept: 'application/json',
    'user-agent': 'curfew',
  }
}
