// The set-up of logout audits for one relying party, without its secrets. Members have the names of the API, because the ledger
// stores them as JSON.

/** A hook of the operator that makes a session of a test user. Its headers and body are secrets. */
export interface HttpLogin {
  readonly kind: 'http'
  readonly url: string
  readonly method: 'GET' | 'POST'
}

/** A code-flow login at the IdP with a test user, in the forms of the IdP. The password is a secret. */
export interface OidcLogin {
  readonly kind: 'oidc'
  /** The login URL of the relying party. */
  readonly start_url: string
  readonly username: string
  /** The `sub` of the test user. */
  readonly sub: string
  /** Names of form fields. Default: found by their types. */
  readonly fields?: { readonly username?: string; readonly password?: string }
  /** The name of the button that submits a form. Default: the first one. */
  readonly submit?: string
  /** Origins whose forms get the password, in addition to the origin of the issuer. */
  readonly login_origins?: readonly string[]
}

/** A URL of the relying party that shows whether the session lives. */
export interface AuditCheck {
  readonly url: string
  readonly logged_in: { readonly status: readonly number[] }
  readonly logged_out: { readonly status: readonly number[] }
  /** A redirect means logged out only if its target begins with this text. */
  readonly location_prefix?: string
}

/** A request that makes the relying party refresh its tokens. */
export interface AuditRefresh {
  readonly url: string
  readonly method: 'GET' | 'POST'
}

export interface AuditSettings {
  readonly login: HttpLogin | OidcLogin
  readonly check: AuditCheck
  readonly refresh?: AuditRefresh
  /** The longest time that the session may survive the logout, in seconds. */
  readonly timeout_s: number
}

/** The secrets of a set-up. */
export interface AuditSecrets {
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
  readonly password?: string
}

/** The bounds of a schedule and of a timeout, in seconds. */
export const AUDIT_EVERY_S = { min: 300, max: 31 * 86_400 } as const
export const AUDIT_TIMEOUT_S = { min: 1, max: 3_600, default: 60 } as const

/** The meaning of one answer of the check. `unclear`: no answer, or one that the set-up does not name. */
export type CheckSays = 'logged_in' | 'logged_out' | 'unclear'

/** Reads an answer of the check. @param answer null if there was none. @param location the absolute target of a redirect. */
export function readCheck(
  { logged_in, logged_out, location_prefix: prefix }: Omit<AuditCheck, 'url'>,
  answer: { readonly status: number; readonly location: string | null } | null,
): CheckSays {
  if (answer === null) return 'unclear'
  const { status, location } = answer
  if (logged_in.status.includes(status)) return 'logged_in'
  if (!logged_out.status.includes(status)) return 'unclear'
  const redirects = status >= 300 && status < 400
  if (!redirects || prefix === undefined) return 'logged_out'
  return location?.startsWith(prefix) === true ? 'logged_out' : 'unclear'
}
