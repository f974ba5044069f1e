import { type IssuerName, issuerNetworkAccess, type NetworkAccess, type NetworkRule } from '@curfew/domain'
import type { Database } from '../postgres/database.ts'
import type { StoredSettings } from './registry.ts'

/** How long the networks of an issuer are cached, in milliseconds. */
const FRESH_MS = 5_000

const READ_ISSUER_NETWORKS = `
  select defaults, network_rule as "networkRule" from issuers where name = $1 and deleted_at is null`

/**
 * Creates a function that finds the networks which an issuer's own endpoints may be in, such as its signer. The answer is a few
 * seconds old at most. If the ledger is unavailable, the last answer is used. An unregistered issuer may use no private address.
 *
 * @returns the function. It rejects with LedgerUnavailableError if it has no earlier answer.
 */
export function openIssuerNetworks(
  db: Database,
  monotonicMs: () => number = () => performance.now(),
): (issuer: IssuerName) => Promise<NetworkAccess> {
  const known = new Map<IssuerName, { readonly access: NetworkAccess; readonly readMs: number }>()
  return async (issuer) => {
    const before = known.get(issuer)
    if (before !== undefined && monotonicMs() - before.readMs < FRESH_MS) return before.access
    try {
      const { rows } = await db.query<{ defaults: StoredSettings; networkRule: NetworkRule | null }>({
        name: 'read_issuer_networks',
        text: READ_ISSUER_NETWORKS,
        values: [issuer],
      })
      const [row] = rows
      const access =
        row === undefined
          ? { allowedNetworks: [] }
          : issuerNetworkAccess({ chosen: row.defaults.allowed_networks, rule: row.networkRule })
      known.set(issuer, { access, readMs: monotonicMs() })
      return access
    } catch (error) {
      if (before === undefined) throw error
      return before.access
    }
  }
}
