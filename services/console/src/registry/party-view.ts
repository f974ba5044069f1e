import type { RelyingParty, RelyingPartySettings } from '@curfew/contract'
import { readClient } from '@curfew/domain'
import type { Change, EndpointRecord, RelyingPartyRecord } from '@curfew/ledger'
import { clientTlsView } from './client-tls.ts'
import type { RelayAddresses } from './relay.ts'

/** The path of a relying party. */
export function partyPath(issuer: string, clientId: string): string {
  return `/v1/issuers/${issuer}/relying-parties/${encodeURIComponent(clientId)}`
}

/** Curfew's settings of a relying party for answers, without the private key. */
export function settingsView({ settings: { tls, ...settings } }: Pick<RelyingPartyRecord, 'settings'>) {
  return {
    ...(settings as RelyingPartySettings),
    ...(tls !== undefined && { tls: clientTlsView(tls) }),
  }
}

/** A relying party in the form that can be put, patched and imported: the registration without its secrets. */
export function documentOf(party: RelyingPartyRecord): Readonly<Record<string, unknown>> {
  const curfew = settingsView(party)
  return { ...party.metadata, ...(Object.keys(curfew).length > 0 && { curfew }) }
}

/** The response body for a relying party. @param waiting number of waiting deliveries, in the answer to a change. */
export function partyView(party: RelyingPartyRecord, relay: RelayAddresses, waiting?: number): RelyingParty {
  const self = partyPath(party.issuer, party.clientId)
  const query = new URLSearchParams({ issuer: party.issuer, client_id: party.clientId })
  const enabled =
    party.endpoints.length === 0 || party.endpoints.some((endpoint) => endpoint.disabledReason === null)
  return {
    ...party.metadata,
    client_id: party.clientId,
    issuer: party.issuer,
    curfew: settingsView(party),
    status: {
      enabled: enabled && party.settings.enabled !== false,
      disabled_reason: enabled ? null : (party.endpoints[0]?.disabledReason ?? null),
      format: readClient(party.metadata).format,
      client_name: party.clientName,
      endpoints: party.endpoints.map(endpointView),
      ...(waiting !== undefined && { waiting }),
      created_at: party.createdAt.toISOString(),
      updated_at: party.updatedAt.toISOString(),
    },
    links: {
      self,
      health: `${self}/health`,
      probe: `${self}/probe`,
      deliveries: `/v1/deliveries?${query}`,
      relay: relay.of(party),
    },
  }
}

function endpointView(endpoint: EndpointRecord): RelyingParty['status']['endpoints'][number] {
  const { kind, name, uri, names, counts, fallbackFor, settings, disabledReason } = endpoint
  return {
    ...{ channel: kind, name, uri, names, counts },
    // A channel stores null for settings that are not set.
    settings: Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== null)),
    enabled: disabledReason === null,
    disabled_reason: disabledReason,
    fallback_for: fallbackFor,
  }
}

/** Makes the audit entry of a change by a credential. */
export function partyChange(credential: string, relay: RelayAddresses): Change<RelyingPartyRecord> {
  return (before, after) => {
    const party = after ?? before
    return {
      credential,
      action: `relying_party.${before === null ? 'created' : after === null ? 'deleted' : 'changed'}`,
      object: party === null ? '' : partyPath(party.issuer, party.clientId),
      detail: {
        before: before === null ? null : partyView(before, relay),
        after: after === null ? null : partyView(after, relay),
      },
    }
  }
}
