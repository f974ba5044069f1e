import {
  liesWithin,
  mayChangeRule,
  type NetworkRank,
  type NetworkRule,
  type NetworkSettings,
  networkLimit,
} from '@curfew/domain'
import type { IssuerRecord } from '@curfew/ledger'
import { type Credential, type Fault, hasScope, isCidr } from '@curfew/runtime'

/** The rank of a credential for network settings. */
export function networkRank({ scopes, access }: Pick<Credential, 'scopes' | 'access'>): NetworkRank {
  if (access.kind === 'clients') return 'clients'
  return access.kind === 'everything' && hasScope({ scopes }, 'admin') ? 'admin' : 'issuer'
}

/** The network settings of an issuer. */
export function networksOf({ defaults, networkRule }: IssuerRecord): NetworkSettings {
  return { chosen: defaults.allowed_networks, rule: networkRule }
}

/**
 * Returns the networks to register. If the request names none and the caller may not change the existing rule, the networks of the
 * rule stay.
 */
export function registeredNetworks(
  asked: readonly string[] | undefined,
  { rank, rule }: { rank: NetworkRank; rule: NetworkRule | null },
): readonly string[] | undefined {
  return asked ?? (rule !== null && !mayChangeRule(rank, rule) ? rule.networks : undefined)
}

/** The faults of a list of CIDRs. */
export function networkFaults(networks: readonly string[] | undefined, pointer: string): Fault[] {
  return (networks ?? []).flatMap((network, index) =>
    isCidr(network)
      ? []
      : [{ pointer: `${pointer}/${index}`, detail: 'must be a CIDR such as 10.0.0.0/8 or fd00::/8' }],
  )
}

/** The faults of networks that a credential may not register. @param networks valid CIDRs. */
export function beyondFaults(
  networks: readonly string[] | undefined,
  pointer: string,
  {
    rank,
    ...where
  }: { rank: NetworkRank; rule: NetworkRule | null; issuer: NetworkSettings; ceiling: readonly string[] },
): Fault[] {
  const limit = networkLimit(rank, where)
  if (limit === null) return []
  const byRule = where.rule !== null || where.issuer.rule !== null
  const source = byRule
    ? 'the networks that an administrator set'
    : rank === 'clients'
      ? 'the networks of its issuer and of this deployment (CURFEW_ALLOWED_NETWORKS)'
      : 'the networks of this deployment (CURFEW_ALLOWED_NETWORKS)'
  const detail = `must be within ${source}: only a credential with the scope admin that is not bound to an issuer may go beyond them`
  return (networks ?? []).flatMap((network, index) =>
    liesWithin(network, limit) ? [] : [{ pointer: `${pointer}/${index}`, detail }],
  )
}
