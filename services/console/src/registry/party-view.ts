import type { RelyingParty, RelyingPartySettings } from '@curfew/contract'
import { readClient } from '@curfew/domain'
import type { Change, EndpointRecord, RelyingPartyRecord } from '@curfew/ledger'
import { clientTlsView } from './client-tls.ts'

/** The path of a relying party. */
export function partyPath(issuer: string, clientId: string): string {
  return `/v1/issuers/${issuer}/relying-parties/${encodeURIComponent(clientId)}`
}

/** Our settings as they are shown: without the client's private key. */
export function settingsView({ settings: { tls, ...settings } }: Pick<RelyingPartyRecord, 'settings'>) {
  return {
    ...(settings as RelyingPartySettings),
    ...(tls !== undefined && { tls: clientTlsView(tls) }),
  }
}

/** A relying party as it can be put, patched and imported: what its owner said, without what was kept from it. */
export function documentOf(party: RelyingPartyRecord): Readonly<Record<string, unknown>> {
  const curfew = settingsView(party)
  return { ...party.metadata, ...(Object.keys(curfew).length > 0 && { curfew }) }
}

/** A relying party as the API shows it. @param waiting deliveries that wait for it, in the answer to a change. */
export function partyView(party: RelyingPartyRecord, waiting?: number): RelyingParty {
  const self = partyPath(party.issuer, party.clientId)
  const query = new URLSearchParams({ issuer: party.issuer, client_id: party.clientId })
  const enabled = party.endpoints.length === 0 || party.endpoints.some((each) => each.disabledReason === null)
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
    },
  }
}

function endpointView(endpoint: EndpointRecord): RelyingParty['status']['endpoints'][number] {
  const { kind, name, uri, names, counts, fallbackFor, settings, disabledReason } = endpoint
  return {
    ...{ channel: kind, name, uri, names, counts },
    // A channel stores null for what is not set.
    settings: Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== null)),
    enabled: disabledReason === null,
    disabled_reason: disabledReason,
    fallback_for: fallbackFor,
  }
}

/** What the audit notes of a change by this credential. */
export function partyChange(credential: string): Change<RelyingPartyRecord> {
  return (before, after) => {
    const party = after ?? before
    return {
      credential,
      action: `relying_party.${before === null ? 'created' : after === null ? 'deleted' : 'changed'}`,
      object: party === null ? '' : partyPath(party.issuer, party.clientId),
      detail: {
        before: before === null ? null : partyView(before),
        after: after === null ? null : partyView(after),
      },
    }
  }
}
