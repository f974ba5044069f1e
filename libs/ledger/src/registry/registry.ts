import {
  type Binding,
  type BindingId,
  type ChannelSettings,
  type ClientId,
  DEFAULT_RETRY_POLICY,
  type Issuer,
  type IssuerName,
  issuerNetworkAccess,
  type Level,
  type Names,
  type NetworkAccess,
  type NetworkRule,
  networkAccess,
  type Offer,
  pairwiseClients,
  type RegisteredIssuer,
  type RelaySettings,
  type SessionIndexUse,
  type SubjectType,
} from '@curfew/domain'
import { writeAudit } from '../access/audit.ts'
import { type Database, type Queryable, withTransaction } from '../postgres/database.ts'
import { type StoredTls, toTls } from './stored-tls.ts'

/** The stored settings of a relying party. An absent member comes from its issuer, and then from the defaults below. */
export interface StoredSettings {
  readonly subject_claims?: 'sid' | 'sub' | 'both'
  readonly token_type?: 'logout+jwt' | 'JWT' | 'none'
  readonly already_ended_errors?: readonly string[]
  readonly timeout_ms?: number
  readonly concurrency?: number
  readonly rate_per_second?: number
  readonly retry_schedule_ms?: readonly number[]
  readonly allowed_networks?: readonly string[]
  readonly trace_context?: boolean
  readonly enabled?: boolean
  /** Endpoints in addition to the one in its metadata. */
  readonly endpoints?: readonly { readonly name: string; readonly uri: string; readonly enabled?: boolean }[]
  readonly tls?: StoredTls
  /** Settings of each channel, by its kind; without secrets. */
  readonly channels?: Readonly<Record<string, Readonly<Record<string, unknown>>>>
  /** The members of the SLA that differ from its issuer's. */
  readonly sla?: { readonly within_ms?: number; readonly objective?: number }
  /** The address that confirms the logouts that the client started. */
  readonly confirmation_uri?: string
  readonly confirmation_deadline_ms?: number
  /** The secrets that sign confirmations, as compact JWEs under the master key. Present exactly with `confirmation_uri`. */
  readonly confirmation?: StoredConfirmationSecrets
}

export interface StoredConfirmationSecrets {
  readonly sealed_secret: string
  /** The secret before the last rotation, which also signs for a while. */
  readonly sealed_previous_secret?: string
  /** The end of that while, in RFC 3339. */
  readonly previous_secret_until?: string
}

/** Returns the effective settings of a relying party: its own before its issuer's before the defaults here. */
export function effectiveSettings(own: StoredSettings, defaults: StoredSettings) {
  return {
    timeout_ms: 10_000,
    retry_schedule_ms: DEFAULT_RETRY_POLICY.scheduleMs,
    ...defaults,
    ...own,
  }
}

/** SQL: the `RelaySettings` of the domain. @param issuer alias of a row of `issuers`. */
export const relaySettingsOf = (issuer: string) =>
  `jsonb_build_object('jwksUri', ${issuer}.jwks_uri, 'lenient', ${issuer}.lenient_logout_tokens, 'widen', ${issuer}.widen)`

export interface KnownIssuer extends RegisteredIssuer {
  /** Its number in the session index; null if none of its sessions was ever posted. */
  readonly sessionIssuer: number | null
  readonly relay: RelaySettings
  /** The networks that its key set may be in. */
  readonly networks: NetworkAccess
}

/** The registered issuers and bindings, for planning and attempts. */
export interface Registry {
  readonly revision: number
  /** Registered issuers by `iss`. */
  readonly issuers: ReadonlyMap<Issuer, KnownIssuer>
  readonly bindings: ReadonlyMap<BindingId, Binding>
}

const LOCK_REGISTRY = 'select revision from registry_revision for update'

/** Locks the registry against other changes until the transaction ends. @returns the revision of the last change. */
export async function lockRegistry(transaction: Queryable): Promise<number> {
  const { rows } = await transaction.query<{ revision: number }>({
    name: 'lock_registry',
    text: LOCK_REGISTRY,
  })
  return rows[0]?.revision ?? 0
}

const BUMP_REGISTRY = 'update registry_revision set revision = revision + 1'

/** Increments the registry's revision, for a change that the transaction has made under the lock. */
export async function bumpRegistry(transaction: Queryable): Promise<void> {
  await transaction.query({ name: 'bump_registry', text: BUMP_REGISTRY })
}

const DISABLE_BINDING = `
  update bindings b set disabled_reason = $2
    from relying_parties p
   where b.id = $1 and b.uri = $3 and b.disabled_reason is null and p.id = b.relying_party_id
  returning p.id, p.issuer, p.client_id as "clientId", b.kind as channel, b.endpoint`
const TOUCH_RELYING_PARTY = 'update relying_parties set revision = $2, updated_at = now() where id = $1'

/**
 * Disables a binding until its owner registers it again. The audit record names `curfew` as the credential. Does nothing if the
 * owner has changed the URI meanwhile: the new address did not answer that it is gone.
 *
 * @param uri the address that answered 410 Gone.
 * @param reason a text for the owner.
 */
export async function disableBinding(
  db: Database,
  id: BindingId,
  { uri, reason }: { uri: string; reason: string },
): Promise<void> {
  await withTransaction(db, async (transaction) => {
    const revision = await lockRegistry(transaction)
    const { rows } = await transaction.query<{
      id: number
      issuer: IssuerName
      clientId: ClientId
      channel: string
      endpoint: string
    }>({ name: 'disable_binding', text: DISABLE_BINDING, values: [id, reason, uri] })
    const [party] = rows
    if (party === undefined) return
    await transaction.query({
      name: 'touch_relying_party',
      text: TOUCH_RELYING_PARTY,
      values: [party.id, revision + 1],
    })
    await bumpRegistry(transaction)
    await writeAudit(transaction, {
      credential: 'curfew',
      action: 'relying_party.endpoint_disabled',
      object: `/v1/issuers/${party.issuer}/relying-parties/${encodeURIComponent(party.clientId)}`,
      detail: { channel: party.channel, endpoint: party.endpoint, reason },
    })
  })
}

const READ_REVISION = 'select revision from registry_revision'

/** Reads the registry's revision: a cheap query that shows whether the registry must be read again. */
export async function readRegistryRevision(db: Database): Promise<number> {
  const { rows } = await db.query<{ revision: number }>({ name: 'read_revision', text: READ_REVISION })
  return rows[0]?.revision ?? 0
}

// An index that is known to lack sessions counts as partial, even if its issuer is registered as complete.
const SESSION_INDEX_USE = `
  case when i.session_index = 'complete' and s.gaps_until is not null then 'partial' else i.session_index end`

const READ_REGISTRY = `
  select r.revision, i.name, i.iss, i.defaults, i.network_rule as issuer_network_rule,
         ${relaySettingsOf('i')} as relay,
         ${SESSION_INDEX_USE} as session_index, s.id as session_issuer, i.subject_type as issuer_subject_type, p.subject_type, b.id, b.kind, b.endpoint, b.uri, b.counts,
         b.fallback_for, b.disabled_reason, p.client_id,
         b.settings as channel_settings, b.offer, b.names, b.widens, b.always, b.posted, b.sealed_secret, p.settings, p.network_rule
    from registry_revision r
    left join issuers i on i.deleted_at is null
    left join session_issuers s on s.iss = i.iss
    left join relying_parties p on p.issuer = i.name and p.deleted_at is null
    left join bindings b on b.relying_party_id = p.id and b.registered
   order by i.name, p.client_id, b.id`

interface RegistryRow {
  readonly revision: number
  /** Null in the only row of a registry without issuers. */
  readonly name: IssuerName | null
  readonly iss: Issuer
  readonly defaults: StoredSettings
  readonly issuer_network_rule: NetworkRule | null
  readonly relay: RelaySettings
  readonly session_index: SessionIndexUse
  readonly session_issuer: number | null
  readonly issuer_subject_type: SubjectType
  /** Null if the client states none. */
  readonly subject_type: SubjectType | null
  readonly id: BindingId | null
  readonly kind: string
  readonly endpoint: string
  readonly uri: string
  readonly counts: Level
  readonly fallback_for: string | null
  readonly disabled_reason: string | null
  readonly client_id: ClientId
  readonly channel_settings: ChannelSettings
  readonly offer: Offer | null
  readonly names: Names
  readonly widens: boolean
  readonly always: boolean
  readonly posted: boolean
  readonly sealed_secret: string | null
  readonly settings: StoredSettings
  readonly network_rule: NetworkRule | null
}

/** Reads all registered issuers and bindings in one statement, and so from one snapshot. */
export async function readRegistry(db: Database): Promise<Registry> {
  const { rows } = await db.query<RegistryRow>({ name: 'read_registry', text: READ_REGISTRY })
  const issuers = new Map<Issuer, KnownIssuer & { readonly bindings: Binding[] }>()
  const bindings = new Map<BindingId, Binding>()
  const byIssuer = Map.groupBy(rows, ({ iss }) => iss)
  for (const row of rows) {
    if (row.name === null) continue
    const issuer = issuers.get(row.iss) ?? toIssuer(row, byIssuer.get(row.iss) ?? [])
    issuers.set(row.iss, issuer)
    if (row.id === null) continue
    const binding = toBinding({ ...row, name: row.name, id: row.id })
    issuer.bindings.push(binding)
    bindings.set(binding.id, binding)
  }
  return { revision: rows[0]?.revision ?? 0, issuers, bindings }
}

/** @param ofIssuer the rows of the issuer. */
function toIssuer(
  row: RegistryRow,
  ofIssuer: readonly RegistryRow[],
): KnownIssuer & { readonly bindings: Binding[] } {
  const { relay, session_index: sessionIndex, session_issuer: sessionIssuer } = row
  const networks = issuerNetworkAccess({
    chosen: row.defaults.allowed_networks,
    rule: row.issuer_network_rule,
  })
  const stated = ofIssuer.map(({ client_id, subject_type }) => [client_id, subject_type] as const)
  const pairwise = pairwiseClients(row.issuer_subject_type, stated)
  return { bindings: [], sessionIndex, sessionIssuer, relay, networks, pairwise }
}

function toBinding(row: RegistryRow & { readonly name: IssuerName; readonly id: BindingId }): Binding {
  const settings = effectiveSettings(row.settings, row.defaults)
  return {
    id: row.id,
    kind: row.kind,
    offer: row.offer,
    issuer: row.name,
    iss: row.iss,
    clientId: row.client_id,
    endpoint: row.endpoint,
    uri: row.uri,
    // Validated when the binding was registered.
    settings: row.channel_settings,
    names: row.names,
    widens: row.widens,
    always: row.always,
    posted: row.posted,
    sealedSecret: row.sealed_secret,
    timeoutMs: settings.timeout_ms,
    concurrency: settings.concurrency ?? null,
    ratePerSecond: settings.rate_per_second ?? null,
    retry: { ...DEFAULT_RETRY_POLICY, scheduleMs: settings.retry_schedule_ms },
    traceContext: settings.trace_context === true,
    ...networkAccess(
      { chosen: row.settings.allowed_networks, rule: row.network_rule },
      { chosen: row.defaults.allowed_networks, rule: row.issuer_network_rule },
    ),
    tls: toTls(settings.tls),
    counts: row.counts,
    fallbackFor: row.fallback_for,
    disabledReason: row.disabled_reason,
  }
}
