import { BlockList, isIP } from 'node:net'

/**
 * Addresses that are not globally reachable unicast, and so never a relying party's unless a network is allowed by name:
 * the IANA special-purpose registry (RFC 6890 and what has joined it since), and what clouds answer their own machines from.
 */
const SPECIAL_V4 = [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['168.63.129.16', 32], // Azure's metadata and DNS: of public range, but each machine's own
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.88.99.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['224.0.0.0', 4],
  ['240.0.0.0', 4],
] as const

/** Within 2000::/3, which alone is global unicast: protocol assignments with Teredo, documentation, 6to4. */
const SPECIAL_V6 = [
  ['2001::', 23],
  ['2001:db8::', 32],
  ['2002::', 16],
  ['3fff::', 20],
] as const

const special = new BlockList()
for (const [network, prefix] of SPECIAL_V4) special.addSubnet(network, prefix, 'ipv4')
for (const [network, prefix] of SPECIAL_V6) special.addSubnet(network, prefix, 'ipv6')
const globalV6 = new BlockList()
globalV6.addSubnet('2000::', 3, 'ipv6')

/** Networks that are allowed although they are private. */
export interface AllowedNetworks {
  has(address: string): boolean
}

/** @param cidrs such as `10.0.0.0/8` or `fd00::/8`, checked where they came in. */
export function createAllowedNetworks(cidrs: readonly string[]): AllowedNetworks {
  const list = new BlockList()
  for (const cidr of cidrs) {
    const [network = '', prefix = ''] = cidr.split('/')
    list.addSubnet(network, Number(prefix), isIP(network) === 6 ? 'ipv6' : 'ipv4')
  }
  return {
    has(address) {
      // A zone says through which interface, not whose the address is.
      const [plain = ''] = address.split('%', 1)
      // The list knows an IPv4 address by its IPv4-mapped name too.
      return list.check(plain, isIP(plain) === 6 ? 'ipv6' : 'ipv4')
    },
  }
}

/** Whether an address may be dialled: allowed by name, or, over TLS, globally reachable. */
export function mayDial(
  address: string,
  { allowed, tls }: { allowed: AllowedNetworks; tls: boolean },
): boolean {
  if (allowed.has(address)) return true
  if (!tls) return false
  switch (isIP(address)) {
    case 4:
      return !special.check(address, 'ipv4')
    case 6:
      // IPv4-mapped addresses and NAT64 lie outside 2000::/3, so that no IPv4 address is reached by a second name.
      return globalV6.check(address, 'ipv6') && !special.check(address, 'ipv6')
    default:
      return false
  }
}
