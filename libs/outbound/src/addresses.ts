import { BlockList, isIP } from 'node:net'

/**
 * Addresses that are not globally reachable unicast: the IANA special-purpose registry (RFC 6890 and its later entries), and
 * the addresses at which clouds answer their own machines. No relying party lives there unless an allowed network names it.
 */
const SPECIAL_V4 = [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['168.63.129.16', 32], // Azure's metadata and DNS: in a public range, but local to each machine
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

/** The exceptions within 2000::/3, the only global unicast range: protocol assignments with Teredo, documentation, 6to4. */
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

/** Private networks that are allowed. */
export interface AllowedNetworks {
  has(address: string): boolean
}

/** @param cidrs such as `10.0.0.0/8` or `fd00::/8`; the caller has validated them. */
export function createAllowedNetworks(cidrs: readonly string[]): AllowedNetworks {
  const list = new BlockList()
  for (const cidr of cidrs) {
    const [network = '', prefix = ''] = cidr.split('/')
    list.addSubnet(network, Number(prefix), isIP(network) === 6 ? 'ipv6' : 'ipv4')
  }
  return {
    has(address) {
      // A zone names the interface and is not part of the address.
      const [plain = ''] = address.split('%', 1)
      // The list finds an IPv4 address by its IPv4-mapped form too.
      return list.check(plain, isIP(plain) === 6 ? 'ipv6' : 'ipv4')
    },
  }
}

/** Whether an address may be dialled: an allowed network contains it, or it is globally reachable and the connection uses TLS. */
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
      // IPv4-mapped addresses and NAT64 lie outside 2000::/3, so a second spelling of an IPv4 address reaches nothing.
      return globalV6.check(address, 'ipv6') && !special.check(address, 'ipv6')
    default:
      return false
  }
}
