import type { AuditSetupInput } from '@curfew/contract'
import type { AuditSettings, Issuer } from '@curfew/domain'
import type { Fault } from '@curfew/runtime'

// The faults of a set-up of logout audits, beyond its schema.

type Login = AuditSetupInput['login']

/** Headers that the HTTP client sets itself (RFC 9110 sections 7.2, 7.6.1 and 8.6). */
const OWN_HEADERS = new Set([
  ...['connection', 'content-length', 'expect', 'host', 'keep-alive', 'proxy-authorization'],
  ...['proxy-connection', 'te', 'trailer', 'transfer-encoding', 'upgrade'],
])
const HEADER_NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/
const HEADER_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/

/**
 * @param before the stored set-up; null if there is none.
 * @param targetFault the fault of a URL within the networks of the relying party; null if there is none.
 */
export function setupFaults(
  input: AuditSetupInput,
  {
    iss,
    before,
    targetFault,
  }: {
    readonly iss: Issuer
    readonly before: AuditSettings | null
    readonly targetFault: (uri: string) => string | null
  },
): readonly Fault[] {
  const { login, check, refresh } = input
  const urls: readonly (readonly [pointer: string, url: string])[] = [
    login.kind === 'http' ? ['/login/url', login.url] : ['/login/start_url', login.start_url],
    ['/check/url', check.url],
    ...(refresh === undefined ? [] : [['/refresh/url', refresh.url] as const]),
  ]
  const faults = urls.flatMap(([pointer, url]): Fault[] => {
    const detail = targetFault(url)
    return detail === null ? [] : [{ pointer, detail }]
  })
  const both = check.logged_in.status.find((status) => check.logged_out.status.includes(status))
  if (both !== undefined)
    faults.push({ pointer: '/check/logged_out/status', detail: `must not have ${both}, which logged_in has` })
  const keeps = before !== null && keepsSecrets(before, input)
  return [...faults, ...(login.kind === 'http' ? hookFaults(login) : oidcFaults(login, { iss, keeps }))]
}

function hookFaults({ method, headers = {}, body }: Extract<Login, { kind: 'http' }>): readonly Fault[] {
  const faults: Fault[] = []
  for (const [name, value] of Object.entries(headers)) {
    const pointer = `/login/headers/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`
    if (!HEADER_NAME.test(name) || OWN_HEADERS.has(name.toLowerCase()))
      faults.push({ pointer, detail: 'must be the name of a header that a caller may set' })
    else if (!HEADER_VALUE.test(value)) faults.push({ pointer, detail: 'must be the value of a header' })
  }
  if (body !== undefined && method === 'GET')
    faults.push({ pointer: '/login/body', detail: 'must be absent with GET' })
  return faults
}

function oidcFaults(
  login: Extract<Login, { kind: 'oidc' }>,
  { iss, keeps }: { readonly iss: Issuer; readonly keeps: boolean },
): readonly Fault[] {
  const faults: Fault[] = []
  // On a shared origin, a page of the relying party could not be told from a form of the login.
  if (URL.parse(login.start_url)?.origin === URL.parse(iss)?.origin)
    faults.push({
      pointer: '/login/start_url',
      detail: 'must have another origin than the issuer. Use a hook (kind http) for this relying party',
    })
  for (const [index, origin] of (login.login_origins ?? []).entries()) {
    if (URL.parse(origin)?.origin !== origin)
      faults.push({
        pointer: `/login/login_origins/${index}`,
        detail: 'must be an origin such as https://login.idp.example',
      })
  }
  if (login.password === undefined && !keeps)
    faults.push({
      pointer: '/login/password',
      detail:
        'is missing: no password is stored for this start_url, username and login_origins with these origins of check and refresh',
    })
  return faults
}

/**
 * Whether the stored secrets may stay with a changed set-up. They stay only if they, and the session that they make, go to the same
 * places: a change must not send them elsewhere.
 */
export function keepsSecrets(
  stored: Pick<AuditSettings, 'login' | 'check' | 'refresh'>,
  given: Pick<AuditSetupInput, 'login' | 'check' | 'refresh'>,
): boolean {
  const shown = ({ check, refresh }: Pick<AuditSettings, 'check' | 'refresh'>) =>
    [check.url, refresh?.url].flatMap((url) => (url === undefined ? [] : [URL.parse(url)?.origin]))
  const known = new Set(shown(stored))
  return isSameLogin(stored.login, given.login) && shown(given).every((origin) => known.has(origin))
}

function isSameLogin(stored: AuditSettings['login'], given: Login): boolean {
  if (stored.kind === 'http')
    return given.kind === 'http' && stored.url === given.url && stored.method === given.method
  if (given.kind !== 'oidc' || stored.start_url !== given.start_url || stored.username !== given.username)
    return false
  const origins = (of: readonly string[] | undefined) => [...(of ?? [])].toSorted().join(' ')
  return origins(stored.login_origins) === origins(given.login_origins)
}
