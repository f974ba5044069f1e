/** A valid CIDR, such as `10.0.0.0/8` or `fd00::/8`. */
export type Network = string

/** The rank of a credential, from the highest to the lowest. A lower rank may not widen the networks that a higher rank set. */
export type NetworkRank = 'admin' | 'issuer' | 'clients'

/** The networks that a credential set for a registration. A credential of a lower rank must stay within them. */
export interface NetworkRule {
  readonly networks: readonly Network[]
  /** The rank of the credential. Only an unbound admin (`admin`) may go beyond the deployment's networks. */
  readonly by: 'admin' | 'issuer'
}

/** The private networks that the endpoints of one registration may be in. The guarded client adds the deployment's limit. */
export interface NetworkAccess {
  /** The allowed part of the deployment's networks. Null: all of them. */
  readonly allowedNetworks: readonly Network[] | null
  /** Networks that an unbound admin allowed, even outside the deployment's. Default: none. */
  readonly grantedNetworks?: readonly Network[]
}

/** The networks that a registration chose, and the rule that limits them. */
export interface NetworkSettings {
  readonly chosen: readonly Network[] | undefined
  readonly rule: NetworkRule | null
}

/**
 * The networks that a relying party's endpoints may be in: those of its registration, or else its issuer's defaults, within the
 * rules of both. An unbound admin's rule for the relying party overrides the issuer's rule.
 */
export function networkAccess(party: NetworkSettings, issuer: NetworkSettings): NetworkAccess {
  const rules = [party.rule, party.rule?.by === 'admin' ? null : issuer.rule].filter((rule) => rule !== null)
  const chosen = party.chosen ?? issuer.chosen
  const [first, ...others] = [
    ...(chosen === undefined ? [] : [chosen]),
    ...rules.map((rule) => rule.networks),
  ]
  if (first === undefined) return { allowedNetworks: null }
  const allowedNetworks = others.reduce(intersectNetworks, first)
  const granted = rules.some((rule) => rule.by === 'admin')
  return { allowedNetworks, ...(granted && { grantedNetworks: allowedNetworks }) }
}

/** The networks that an issuer's own endpoints, such as its key set and its signer, may be in. */
export function issuerNetworkAccess(issuer: NetworkSettings): NetworkAccess {
  return networkAccess({ chosen: undefined, rule: null }, issuer)
}

/** Limits an access to `networks`. */
export function narrowedAccess(access: NetworkAccess, networks: readonly Network[]): NetworkAccess {
  const { allowedNetworks, grantedNetworks = [] } = access
  return {
    allowedNetworks: allowedNetworks === null ? networks : intersectNetworks(allowedNetworks, networks),
    grantedNetworks: intersectNetworks(grantedNetworks, networks),
  }
}

/** A unique name for an access, such as the key of a cache. */
export function accessName({ allowedNetworks, grantedNetworks }: NetworkAccess): string {
  const within = allowedNetworks === null ? 'all' : allowedNetworks.join(',')
  return grantedNetworks === undefined ? within : `${within} ${grantedNetworks.join(',')}`
}

/** The networks that Curfew may connect to. @param ceiling the deployment's networks. */
export function effectiveNetworks(
  { allowedNetworks, grantedNetworks = [] }: NetworkAccess,
  ceiling: readonly Network[],
): readonly Network[] {
  const within = allowedNetworks === null ? ceiling : intersectNetworks(allowedNetworks, ceiling)
  return [...within, ...grantedNetworks]
}

/** The networks that a credential may register. Null: every network. */
export function networkLimit(
  rank: NetworkRank,
  {
    rule,
    issuer,
    ceiling,
  }: { rule: NetworkRule | null; issuer: NetworkSettings; ceiling: readonly Network[] },
): readonly Network[] | null {
  if (rank === 'admin') return null
  if (rule?.by === 'admin') return rule.networks
  if (rank === 'issuer') return issuer.rule?.networks ?? ceiling
  return effectiveNetworks(networkAccess({ chosen: rule?.networks, rule }, issuer), ceiling)
}

/** Whether a credential may change or remove a rule. */
export function mayChangeRule(rank: NetworkRank, rule: NetworkRule | null): boolean {
  return rank === 'admin' || (rank === 'issuer' && rule?.by !== 'admin')
}

/** The rule after a change of a registration. @param asked the networks in the registration; undefined if it sets none. */
export function ruleAfter(
  rule: NetworkRule | null,
  { rank, asked }: { rank: NetworkRank; asked: readonly Network[] | undefined },
): NetworkRule | null {
  if (rank === 'clients' || !mayChangeRule(rank, rule)) return rule
  return asked === undefined ? null : { networks: asked, by: rank }
}

/**
 * The rule after an unbound admin removed the registration. A rule that narrowed the networks stays; networks granted beyond the
 * ceiling are withdrawn.
 */
export function ruleAfterRemoval(
  rule: NetworkRule | null,
  { rank, ceiling }: { rank: NetworkRank; ceiling: readonly Network[] },
): NetworkRule | null {
  if (rule === null || rank !== 'admin') return rule
  if (ceiling.every((network) => liesWithin(network, rule.networks))) return null
  return { ...rule, networks: intersectNetworks(rule.networks, ceiling) }
}

/** Whether a network lies within one of the others. */
export function liesWithin(network: Network, others: readonly Network[]): boolean {
  const inner = parse(network)
  return others.some((other) => contains(parse(other), inner))
}

/** The intersection of two lists of networks. Two CIDRs are either nested or disjoint, so it consists of members of the lists. */
export function intersectNetworks(some: readonly Network[], others: readonly Network[]): readonly Network[] {
  const inSome = some.filter((network) => liesWithin(network, others))
  const inOthers = others.filter((network) => liesWithin(network, some) && !inSome.includes(network))
  return [...inSome, ...inOthers]
}

interface Parsed {
  readonly bits: bigint
  readonly prefix: number
}

function contains(outer: Parsed, inner: Parsed): boolean {
  const shift = BigInt(128 - outer.prefix)
  return outer.prefix <= inner.prefix && outer.bits >> shift === inner.bits >> shift
}

/**
 * Parses a network. An IPv4 network gets its IPv4-mapped IPv6 prefix, because sockets may report that form (RFC 4291 2.5.5.2).
 */
function parse(network: Network): Parsed {
  const [address = '', prefix = ''] = network.split('/')
  if (!address.includes(':')) return { bits: MAPPED | bitsOfV4(address), prefix: 96 + Number(prefix) }
  return { bits: bitsOfV6(address), prefix: Number(prefix) }
}

const MAPPED = 0xffffn << 32n

function bitsOfV4(address: string): bigint {
  return address.split('.').reduce((bits, byte) => (bits << 8n) | BigInt(Number(byte)), 0n)
}

function bitsOfV6(address: string): bigint {
  const [head = '', tail] = address.split('::')
  const first = groupsOf(head)
  const last = tail === undefined ? [] : groupsOf(tail)
  const groups = [...first, ...Array.from({ length: 8 - first.length - last.length }, () => 0n), ...last]
  return groups.reduce((bits, group) => (bits << 16n) | group, 0n)
}

function groupsOf(text: string): readonly bigint[] {
  if (text === '') return []
  return text.split(':').flatMap((group) => {
    if (!group.includes('.')) return [BigInt(`0x${group}`)]
    const bits = bitsOfV4(group)
    return [bits >> 16n, bits & 0xffffn]
  })
}
