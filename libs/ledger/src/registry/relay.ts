import {
  type ClientId,
  type Issuer,
  type IssuerName,
  issuerNetworkAccess,
  type NetworkAccess,
  type NetworkRule,
  type RelaySettings,
} from '@curfew/domain'
import type { Database } from '../postgres/database.ts'
import { relaySettingsOf, type StoredSettings } from './registry.ts'

/** The part of the registry that the relay needs: issuers by short name. */
export interface RelayRegistry {
  readonly revision: number
  readonly issuers: ReadonlyMap<string, RelayIssuer>
}

export interface RelayIssuer {
  readonly iss: Issuer
  readonly relay: RelaySettings
  /** The networks that its key set may be in. */
  readonly networks: NetworkAccess
  /** The clients that are registered at it. */
  readonly clients: ReadonlySet<ClientId>
}

const READ_RELAY_REGISTRY = `
  select r.revision, i.name, i.iss, i.defaults, i.network_rule as "networkRule",
         ${relaySettingsOf('i')} as relay,
         array(select p.client_id from relying_parties p where p.issuer = i.name and p.deleted_at is null) as clients
    from registry_revision r
    left join issuers i on i.deleted_at is null`

interface Row {
  readonly revision: number
  /** Null in the only row of a registry without issuers. */
  readonly name: IssuerName | null
  readonly iss: Issuer
  readonly defaults: StoredSettings
  readonly networkRule: NetworkRule | null
  readonly relay: RelaySettings
  readonly clients: readonly ClientId[]
}

/** Reads the issuers and their clients in one statement, and so from one snapshot. @throws {LedgerUnavailableError} */
export async function readRelayRegistry(db: Database): Promise<RelayRegistry> {
  const { rows } = await db.query<Row>({ name: 'read_relay_registry', text: READ_RELAY_REGISTRY })
  const issuers = new Map<string, RelayIssuer>()
  for (const { name, iss, defaults, networkRule, relay, clients } of rows) {
    if (name === null) continue
    const networks = issuerNetworkAccess({ chosen: defaults.allowed_networks, rule: networkRule })
    issuers.set(name, { iss, relay, networks, clients: new Set(clients) })
  }
  return { revision: rows[0]?.revision ?? 0, issuers }
}
