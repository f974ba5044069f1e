/** The part of a relay address that stands for the client, in an issuer's `links.relay`. */
const CLIENT = '{client_id}'

/** The relay addresses of an issuer, with `{client_id}` for the client. @param base the URL by which the IdP reaches Curfew. */
export function relayTemplate(base: string, issuer: string): string {
  return `${base.replace(/\/+$/, '')}/relay/${issuer}/${CLIENT}`
}

/** The address to which the IdP posts the logout tokens of a client. @param template as `relayTemplate` makes it. */
export function relayAddress(template: string, clientId: string): string {
  return template.replace(CLIENT, () => encodeURIComponent(clientId))
}

/** The issuer and the client that the path of a relay address names; null if the URI does not have such a path. */
export function readRelayAddress(uri: string): { readonly issuer: string; readonly clientId: string } | null {
  // An administrator, or a proxy, may have decoded the slashes of a client id.
  const [, issuer, client] = /^.*\/relay\/([^/]+)\/(.+)$/.exec(URL.parse(uri)?.pathname ?? '') ?? []
  if (issuer === undefined || client === undefined) return null
  try {
    return { issuer: decodeURIComponent(issuer), clientId: decodeURIComponent(client) }
  } catch {
    // A malformed escape is in no address that Curfew made.
    return null
  }
}
