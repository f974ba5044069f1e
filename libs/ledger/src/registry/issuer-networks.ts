import { type IssuerName, issuerNetworkAccess, type NetworkAccess, type NetworkRule } from '@curfew/domain'
import type { Database } from '../postgres/database.ts'
import type { StoredSettings } from './registry.ts'

/** How long what is known of an issuer is used, in milliseconds. */
const FRESH_MS = 5_000

const READ_ISSUER_NETWORKS = `
  select defaults, network_rule as "networkRule" from issuers where name = $1 and deleted_at is null`

/**
 * Says where endpoints of an issuer's own may live, such as its signer; at most some seconds late. While the ledger is away,
 * what was known is used on. An issuer that is not registered has no private address.
 *
 * @throws {LedgerUnavailableError} where nothing was ever known.
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
