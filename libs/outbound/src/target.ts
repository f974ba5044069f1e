import { isIP } from 'node:net'
import { createAllowedNetworks, mayDial } from './addresses.ts'

/**
 * What is wrong with an endpoint's URI, in words that say what to change; null when nothing is. Looked at when it is
 * registered; the address is looked at again each time it is dialled.
 *
 * @param allowedNetworks CIDRs of the deployment and of this RP.
 */
export function targetFault(uri: string, allowedNetworks: readonly string[]): string | null {
  if (!URL.canParse(uri)) return 'must be an absolute URI'
  const url = new URL(uri)
  if (url.protocol !== 'https:' && url.protocol !== 'http:') return 'must be an https URI'
  if (uri.includes('#')) return 'must not have a fragment (Back-Channel Logout 2.2)'
  if (url.username !== '' || url.password !== '') return 'must not have a user name or password'
  if (/[^\x21-\x7e]/.test(uri))
    return 'must be ASCII: write international names and paths in their encoded form'
  const tls = url.protocol === 'https:'
  const allowed = createAllowedNetworks(allowedNetworks)
  const literal = url.hostname.replace(/^\[|\]$/g, '')
  if (isIP(literal) !== 0) {
    if (mayDial(literal, { allowed, tls })) return null
    return tls || allowedNetworks.length === 0
      ? `must not be a private or reserved address (${literal}), unless allowed_networks names its network`
      : `must be https, unless allowed_networks names the network of ${literal}`
  }
  // Where a name leads is known when it is dialled; without any allowed network it could lead nowhere without TLS.
  if (!tls && allowedNetworks.length === 0)
    return 'must be https, unless allowed_networks names the network it lives in'
  return null
}
