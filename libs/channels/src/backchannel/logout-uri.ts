import type { ClientMetadata } from '@curfew/domain'

/** A placeholder of Keycloak, of a template or of a deployment's tool. */
const PLACEHOLDER = /\$\{[^}]*\}|\$\([^)]*\)|\{\{[^}]*\}\}/
/** The `iss` of a realm of Keycloak, with the base URL of the server. */
const REALM_ISS = /^(https?:\/\/.+?)\/realms\/[^/]+\/?$/

/** The `rootUrl` of Keycloak's own clients. */
const KEYCLOAK_ITSELF = '$' + '{authBaseUrl}'
/** Keycloak's name for the host of a session. */
const SESSION_HOST = '$' + '{application.session.host}'

/** The address that a client's logout URL stands for, or its fault in words. */
export type ResolvedUri = { readonly uri: string } | { readonly fault: string }

/**
 * Resolves a client's logout URL as its IdP does. Keycloak puts the client's `rootUrl` before a relative URL, and its own address
 * in place of `${authBaseUrl}`.
 *
 * @param iss of the issuer. The `iss` of a realm begins with the address of Keycloak.
 */
export function resolveLogoutUri(
  url: string,
  { format, document }: ClientMetadata,
  iss: string,
): ResolvedUri {
  if (format !== 'keycloak' || !url.startsWith('/')) return withoutPlaceholders(url)
  const { rootUrl } = document
  const base = REALM_ISS.exec(iss)?.[1]
  if (typeof rootUrl !== 'string' || rootUrl === '') {
    const origin = URL.parse(iss)?.origin
    return origin === undefined ? { fault: 'must be a whole URL' } : withoutPlaceholders(`${origin}${url}`)
  }
  if (rootUrl !== KEYCLOAK_ITSELF) return withoutPlaceholders(`${rootUrl}${url}`)
  if (base === undefined) {
    return {
      fault: `follows the rootUrl ${KEYCLOAK_ITSELF}, the address of Keycloak, which is unknown because the iss is not a realm's: put the whole URL here`,
    }
  }
  return withoutPlaceholders(`${base}${url}`)
}

function withoutPlaceholders(uri: string): ResolvedUri {
  const [placeholder] = PLACEHOLDER.exec(uri) ?? []
  if (placeholder === undefined) return { uri }
  return {
    fault:
      placeholder === SESSION_HOST
        ? `has ${placeholder}, in whose place Keycloak puts the host of each session: register each host as one of curfew.endpoints, and leave this URL out`
        : `has the placeholder ${placeholder}, which Curfew cannot fill in: put the address in its place`,
  }
}
