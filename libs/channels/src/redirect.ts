/** Words of a path or query by which a redirect leads to a login. */
const LOGIN =
  /log[-_]?in|log[-_]?on|sign[-_]?in|sign[-_]?on|\bauth|oauth|authorize|openid|\bsso\b|saml|account|session|response_type=|client_id=|return_?to=|return_?url=|redirect_?(uri|url|to)?=|[?&](next|continue|service)=/i

/** The address of a redirect, without its query; null if it is unknown or no URL. */
function targetOf(location: string | null, from: string | null): URL | null {
  if (location === null) return null
  try {
    return from === null ? new URL(location) : new URL(location, from)
  } catch {
    return null
  }
}

/** Whether two addresses differ only in the scheme, a leading www, the port or a trailing slash. */
function isSameEndpoint(one: URL, other: URL): boolean {
  const host = ({ hostname }: URL) => hostname.replace(/^www\./, '')
  const path = ({ pathname }: URL) => pathname.replace(/(?<!\/)\/+$/, '').toLowerCase()
  return host(one) === host(other) && path(one) === path(other)
}

/** The answer of a redirect. */
export interface Redirect {
  /** The registered address; null if it is unknown. */
  readonly uri: string | null
  /** The `Location` of the answer; null if it is unknown. */
  readonly location: string | null
}

/**
 * How to correct an endpoint that answers with a redirect, which Curfew does not follow. A logout endpoint behind a login answers
 * so too, and the page of the login must not be registered.
 *
 * @param address the setting that has the address of the endpoint.
 */
export function redirectFix({ uri, location }: Redirect, address: string): string {
  const from = uri !== null && URL.canParse(uri) ? uri : null
  const target = targetOf(location, from)
  const session =
    'The endpoint demands a session: exclude its path from the login filter and from CSRF protection, also in a proxy before it. The message itself authenticates the call.'
  if (target !== null && from !== null && isSameEndpoint(new URL(from), target) && target.href !== from)
    return `Register ${target.origin}${target.pathname} as ${address}: redirects are not followed.`
  if (location !== null && LOGIN.test(location))
    return `${session} Do not register the address of the login page.`
  const otherwise = `If the redirect leads to the same path with https, another host name or a trailing slash, register that address as ${address}: redirects are not followed.`
  return location === null
    ? `${session} ${otherwise}`
    : `If the redirect leads to a login: ${session.charAt(0).toLowerCase()}${session.slice(1)} ${otherwise}`
}
