import type { RelyingParty, RelyingPartySettings } from '@curfew/contract'
import { readClient } from '@curfew/domain'
import type { Change, EndpointRecord, RelyingPartyRecord } from '@curfew/ledger'
import { clientTlsView } from './client-tls.ts'
import type { RelayAddresses } from './relay.ts'

/** The path of a relying party. */
export function partyPath(issuer: string, clientId: string): string {
  return `/v1/issuers/${issuer}/relying-parties/${encodeURIComponent(clientId)}`
}

/** Curfew's settings of a relying party for answers, without its secrets. */
export function settingsView({
  settings: { tls, confirmation: _, ...settings },
}: Pick<RelyingPartyRecord, 'settings'>) {
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

/** The members that only the answer to a change has. */
export interface ShownOnce {
  /** The number of waiting deliveries. Default: not shown. */
  readonly waiting?: number
  /** Default: not shown. */
  readonly notices?: NonNullable<RelyingParty['status']['notices']>
  /** The new secret that signs confirmations; null if the change made none. */
  readonly newSecret: string | null
}

/** The response body for a relying party. @param shown given in the answer to a change. */
export function partyView(
  party: RelyingPartyRecord,
  relay: RelayAddresses,
  shown: ShownOnce | null = null,
): RelyingParty {
  const self = partyPath(party.issuer, party.clientId)
  const query = new URLSearchParams({ issuer: party.issuer, client_id: party.clientId })
  const { confirmation_uri: confirmationUri, confirmation } = party.settings
  const overlapsUntil = confirmation?.previous_secret_until
  const enabled =
    party.endpoints.length === 0 || party.endpoints.some((endpoint) => endpoint.disabledReason === null)
  return {
    ...party.metadata,
    client_id: party.clientId,
    issuer: party.issuer,
    curfew: {
      ...settingsView(party),
      ...(shown !== null && shown.newSecret !== null && { confirmation_secret: shown.newSecret }),
    },
    status: {
      enabled: enabled && party.settings.enabled !== false,
      disabled_reason: enabled ? null : (party.endpoints[0]?.disabledReason ?? null),
      format: readClient(party.metadata).format,
      client_name: party.clientName,
      endpoints: party.endpoints.map(endpointView),
      ...(shown?.waiting !== undefined && { waiting: shown.waiting }),
      ...(shown?.notices !== undefined && { notices: shown.notices }),
      ...(overlapsUntil !== undefined && { confirmation_previous_secret_until: overlapsUntil }),
      created_at: party.createdAt.toISOString(),
      updated_at: party.updatedAt.toISOString(),
    },
    links: {
      self,
      health: `${self}/health`,
      probe: `${self}/probe`,
      deliveries: `/v1/deliveries?${query}`,
      ...(confirmationUri !== undefined && { confirmations: `${self}/confirmations` }),
      relay: relay.of(party),
    },
  }
}

function endpointView(endpoint: EndpointRecord): RelyingParty['status']['endpoints'][number] {
  const { kind, name, uri, names, step, counts, fallbackFor, settings, disabledReason } = endpoint
  return {
    ...{ channel: kind, name, uri, names, counts },
    // A channel stores null for settings that are not set.
    settings: Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== null)),
    enabled: disabledReason === null,
    disabled_reason: disabledReason,
    step,
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
