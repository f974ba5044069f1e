import { isIP } from 'node:net'
import { effectiveNetworks, type NetworkAccess } from '@curfew/domain'
import { createAllowedNetworks, mayDial } from './addresses.ts'
import type { OwnAddresses } from './own-addresses.ts'
import { type PortRange, portAllowed, portOf } from './ports.ts'

/** Longest endpoint URI, in characters: the usual limit of proxies and servers. */
const URI_LENGTH_MAX = 2_048

/** Returns a check of endpoint URIs for one deployment. The check says what is wrong with a URI; null if nothing is. */
export function createTargetCheck({
  allowedNetworks,
  allowedPorts,
  own,
}: {
  readonly allowedNetworks: readonly string[]
  readonly allowedPorts: readonly PortRange[] | null
  readonly own: OwnAddresses
}): (uri: string, access: NetworkAccess) => string | null {
  return (uri, access) => targetFault(uri, effectiveNetworks(access, allowedNetworks), allowedPorts, own)
}

/**
 * Says what is wrong with an endpoint's URI and what to change; null if nothing is wrong. This is the check at registration. The
 * address is checked again at each dial (Back-Channel Logout 2.2).
 *
 * @param allowedNetworks CIDRs of private networks where this RP may live.
 * @param allowedPorts of the deployment; null allows every port.
 * @param own the addresses of the deployment itself.
 */
export function targetFault(
  uri: string,
  allowedNetworks: readonly string[],
  allowedPorts: readonly PortRange[] | null = null,
  own: Pick<OwnAddresses, 'named' | 'has'> | null = null,
): string | null {
  const url = URL.parse(uri)
  if (url === null) return 'must be an absolute URI'
  if (uri.length > URI_LENGTH_MAX) return `must be at most ${URI_LENGTH_MAX} characters long`
  // A browser's URL parser repairs URIs such as `https:/host`, but we send a URI as it was registered.
  if (!/^https?:\/\//i.test(uri)) return 'must be an https URI'
  if (uri.includes('#')) return 'must not have a fragment (Back-Channel Logout 2.2)'
  if (url.username !== '' || url.password !== '') return 'must not have a user name or password'
  if (/[^\x21-\x7e]/.test(uri)) {
    return 'must be ASCII: write international names and paths in their encoded form'
  }
  const [illegal] = /["<>\\^`{|}]/.exec(uri) ?? []
  if (illegal !== undefined) return `must not contain ${illegal}: write it percent-encoded (RFC 3986)`
  return addressFault(url, allowedNetworks) ?? portFault(url, allowedPorts) ?? ownFault(url, own)
}

/** Says what is wrong with the URI's address. Checks only the facts that are known before the dial. */
function addressFault({ protocol, hostname }: URL, allowedNetworks: readonly string[]): string | null {
  const tls = protocol === 'https:'
  const allowed = createAllowedNetworks(allowedNetworks)
  const literal = hostname.replace(/^\[|\]$/g, '')
  if (isIP(literal) !== 0) {
    if (mayDial(literal, { allowed, tls })) return null
    return tls || allowedNetworks.length === 0
      ? `must not be a private or reserved address (${literal}), unless allowed_networks names its network`
      : `must be https, unless allowed_networks names the network of ${literal}`
  }
  if (/(?:^|\.)localhost\.?$/.test(hostname) && !allowed.has('127.0.0.1') && !allowed.has('::1')) {
    return 'must not be this machine (localhost), unless allowed_networks names its network'
  }
  // A trailing dot gives the same host a second name, which TLS cannot express (RFC 6066 3).
  if (hostname.endsWith('.')) return 'must not have a host name that ends in a dot'
  // The dial shows where any other name leads. Without an allowed network, it could lead nowhere without TLS.
  if (!tls && allowedNetworks.length === 0) {
    return 'must be https, unless allowed_networks names the network of this host'
  }
  return null
}

/** Checks the addresses that need no lookup. The dial checks the others. */
function ownFault(url: URL, own: Pick<OwnAddresses, 'named' | 'has'> | null): string | null {
  const host = url.hostname.replace(/^\[|\]$/g, '')
  const port = portOf(url)
  const addresses = /(?:^|\.)localhost$/.test(host) ? ['127.0.0.1', '::1'] : [host]
  const isOwn = own !== null && (own.named(url) || addresses.some((address) => own.has(address, port)))
  if (!isOwn) return null
  return `must not lead to ${host}:${port}, an address of Curfew's own: its messages would come back to it, in a loop. Give the URL of the other service itself, such as the relying party's own logout URL`
}

function portFault(url: URL, allowedPorts: readonly PortRange[] | null): string | null {
  const port = portOf(url)
  if (allowedPorts === null || portAllowed(port, allowedPorts)) return null
  const ranges = allowedPorts.map(([first, last]) => (first === last ? String(first) : `${first}-${last}`))
  return `must not lead to port ${port}: this deployment allows ${ranges.join(', ')}`
}
