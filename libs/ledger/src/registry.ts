import {
  type Binding,
  type BindingId,
  type ClientId,
  DEFAULT_RETRY_POLICY,
  type Issuer,
  type IssuerName,
  type SigningAlgorithm,
  type SubjectClaims,
} from '@curfew/domain'
import type { Database } from './database.ts'
import { toEncryption } from './stored-encryption.ts'
import { type StoredTls, toTls } from './stored-tls.ts'

/** Our settings of a relying party as stored; what is absent comes from its issuer, then from the defaults below. */
export interface StoredSettings {
  readonly subject_claims?: SubjectClaims
  readonly timeout_ms?: number
  readonly concurrency?: number
  readonly rate_per_second?: number
  readonly retry_schedule_ms?: readonly number[]
  readonly allowed_networks?: readonly string[]
  readonly enabled?: boolean
  readonly tls?: StoredTls
}

/** OIDC client metadata, known to us or not. */
export type StoredMetadata = Readonly<Record<string, unknown>>

export interface IssuerRecord {
  readonly name: IssuerName
  readonly iss: Issuer
  readonly slaWithinMs: number
  readonly slaObjective: number
  readonly defaults: StoredSettings
  readonly createdAt: Date
  readonly updatedAt: Date
}

export interface RelyingPartyRecord {
  readonly issuer: IssuerName
  readonly clientId: ClientId
  readonly metadata: StoredMetadata
  readonly settings: StoredSettings
  readonly disabledReason: string | null
  readonly createdAt: Date
  readonly updatedAt: Date
}

/** What planning and attempting need to know of who is registered. */
export interface Registry {
  readonly revision: number
  /** Bindings by `iss`. An issuer without any has an empty list; an unknown one is not there. */
  readonly issuers: ReadonlyMap<Issuer, readonly Binding[]>
  readonly bindings: ReadonlyMap<BindingId, Binding>
}

const ISSUER_COLUMNS = `name, iss, sla_within_ms as "slaWithinMs", sla_objective as "slaObjective", defaults,
  created_at as "createdAt", updated_at as "updatedAt"`

const PUT_ISSUER = `
  with revision as (update registry_revision set revision = revision + 1 returning revision)
  insert into issuers (name, iss, sla_within_ms, sla_objective, defaults, revision)
  select $1, $2, $3, $4, $5, revision from revision
  on conflict (name) do update
     set sla_within_ms = excluded.sla_within_ms, sla_objective = excluded.sla_objective,
         defaults = excluded.defaults, revision = excluded.revision, updated_at = now()
   where issuers.iss = excluded.iss
  returning ${ISSUER_COLUMNS}, (xmax = 0) as created`

export type PutIssuerResult =
  | { readonly ok: true; readonly created: boolean; readonly issuer: IssuerRecord }
  /** `iss_changed`: the name has another `iss`. `iss_taken`: another name has this `iss`. */
  | { readonly ok: false; readonly conflict: 'iss_changed' | 'iss_taken' }

/** Registers an issuer, or changes all of it but its `iss`, which its history hangs on. */
export async function putIssuer(
  db: Database,
  issuer: Pick<IssuerRecord, 'name' | 'iss' | 'slaWithinMs' | 'slaObjective' | 'defaults'>,
): Promise<PutIssuerResult> {
  const { name, iss, slaWithinMs, slaObjective, defaults } = issuer
  try {
    const { rows } = await db.query<IssuerRecord & { created: boolean }>({
      name: 'put_issuer',
      text: PUT_ISSUER,
      values: [name, iss, slaWithinMs, slaObjective, JSON.stringify(defaults)],
    })
    const [row] = rows
    if (row === undefined) return { ok: false, conflict: 'iss_changed' }
    const { created, ...record } = row
    return { ok: true, created, issuer: record }
  } catch (error) {
    if (isUniqueViolation(error)) return { ok: false, conflict: 'iss_taken' }
    throw error
  }
}

const FIND_ISSUER = `select ${ISSUER_COLUMNS} from issuers where name = $1`

export async function findIssuer(db: Database, name: string): Promise<IssuerRecord | null> {
  const { rows } = await db.query<IssuerRecord>({ name: 'find_issuer', text: FIND_ISSUER, values: [name] })
  return rows[0] ?? null
}

const LIST_ISSUERS = `select ${ISSUER_COLUMNS} from issuers where name > $1 order by name limit $2`

/** Issuers by name. @param after the last name of the page before, or the empty string. */
export async function listIssuers(
  db: Database,
  { after, limit }: { after: string; limit: number },
): Promise<readonly IssuerRecord[]> {
  const { rows } = await db.query<IssuerRecord>({
    name: 'list_issuers',
    text: LIST_ISSUERS,
    values: [after, limit],
  })
  return rows
}

const PARTY_COLUMNS = `p.issuer, p.client_id as "clientId", p.metadata, p.settings, p.created_at as "createdAt",
  p.updated_at as "updatedAt", b.disabled_reason as "disabledReason"`

const PUT_RELYING_PARTY = `
  with revision as (update registry_revision set revision = revision + 1 returning revision),
  party as (
    insert into relying_parties (issuer, client_id, metadata, settings, revision)
    select $1, $2, $3, $4, revision from revision
    on conflict (issuer, client_id) do update
       set metadata = excluded.metadata, settings = excluded.settings, revision = excluded.revision, updated_at = now()
    returning *, (xmax = 0) as created
  ),
  binding as (
    insert into bindings (relying_party_id, kind, uri, disabled_reason)
    select id, 'backchannel', $5, $6 from party where $5::text is not null
    on conflict (relying_party_id, kind) do update
       set uri = excluded.uri, registered = true, disabled_reason = excluded.disabled_reason
    returning disabled_reason
  ),
  withdrawn as (
    update bindings set registered = false
     where relying_party_id = (select id from party) and $5::text is null
  )
  select ${PARTY_COLUMNS}, p.created from party p left join binding b on true`

/**
 * Registers a relying party, or replaces what was registered; its endpoint is enabled again unless `disabledReason`
 * says otherwise. The issuer must exist.
 *
 * @param uri its back-channel logout endpoint, or null when it has none: then nothing is owed to it.
 */
export async function putRelyingParty(
  db: Database,
  party: Pick<RelyingPartyRecord, 'issuer' | 'clientId' | 'metadata' | 'settings' | 'disabledReason'> & {
    readonly uri: string | null
  },
): Promise<{ readonly created: boolean; readonly party: RelyingPartyRecord }> {
  const { rows } = await db.query<RelyingPartyRecord & { created: boolean }>({
    name: 'put_relying_party',
    text: PUT_RELYING_PARTY,
    values: [
      party.issuer,
      party.clientId,
      JSON.stringify(party.metadata),
      JSON.stringify(party.settings),
      party.uri,
      party.disabledReason,
    ],
  })
  const [row] = rows
  if (row === undefined) throw new Error(`put_relying_party returned no row for ${party.clientId}`)
  const { created, ...record } = row
  return { created, party: record }
}

const FIND_RELYING_PARTY = `
  select ${PARTY_COLUMNS}
    from relying_parties p left join bindings b on b.relying_party_id = p.id and b.registered
   where p.issuer = $1 and p.client_id = $2`

export async function findRelyingParty(
  db: Database,
  { issuer, clientId }: { issuer: string; clientId: string },
): Promise<RelyingPartyRecord | null> {
  const { rows } = await db.query<RelyingPartyRecord>({
    name: 'find_relying_party',
    text: FIND_RELYING_PARTY,
    values: [issuer, clientId],
  })
  return rows[0] ?? null
}

const LIST_RELYING_PARTIES = `
  select ${PARTY_COLUMNS}
    from relying_parties p left join bindings b on b.relying_party_id = p.id and b.registered
   where p.issuer = $1 and p.client_id > $2
   order by p.client_id limit $3`

/** Relying parties of an issuer by `client_id`. @param after the last of the page before, or the empty string. */
export async function listRelyingParties(
  db: Database,
  { issuer, after, limit }: { issuer: string; after: string; limit: number },
): Promise<readonly RelyingPartyRecord[]> {
  const { rows } = await db.query<RelyingPartyRecord>({
    name: 'list_relying_parties',
    text: LIST_RELYING_PARTIES,
    values: [issuer, after, limit],
  })
  return rows
}

const DISABLE_BINDING = `
  with disabled as (
    update bindings set disabled_reason = $2 where id = $1 and disabled_reason is null returning id
  )
  update registry_revision set revision = revision + 1 where exists (select from disabled)`

/** Stops sending to a binding until its owner registers it again. @param reason in words, for its owner. */
export async function disableBinding(db: Database, id: BindingId, reason: string): Promise<void> {
  await db.query({ name: 'disable_binding', text: DISABLE_BINDING, values: [id, reason] })
}

const READ_REVISION = 'select revision from registry_revision'

/** The number of the registry's last change: cheap to ask, to know whether to read it anew. */
export async function readRegistryRevision(db: Database): Promise<number> {
  const { rows } = await db.query<{ revision: number }>({ name: 'read_revision', text: READ_REVISION })
  return rows[0]?.revision ?? 0
}

const READ_REGISTRY = `
  select (select revision from registry_revision) as revision, i.name, i.iss, i.defaults, b.id, b.uri,
         b.disabled_reason, p.client_id, p.metadata, p.settings
    from issuers i
    left join relying_parties p on p.issuer = i.name
    left join bindings b on b.relying_party_id = p.id and b.registered
   order by i.name, p.client_id`

interface RegistryRow {
  readonly revision: number
  readonly name: IssuerName
  readonly iss: Issuer
  readonly defaults: StoredSettings
  readonly id: BindingId | null
  readonly uri: string
  readonly disabled_reason: string | null
  readonly client_id: ClientId
  readonly metadata: StoredMetadata
  readonly settings: StoredSettings
}

/** Everybody who is registered, in one statement and so as of one moment. */
export async function readRegistry(db: Database): Promise<Registry> {
  const { rows } = await db.query<RegistryRow>({ name: 'read_registry', text: READ_REGISTRY })
  const issuers = new Map<Issuer, Binding[]>()
  const bindings = new Map<BindingId, Binding>()
  for (const row of rows) {
    const ofIssuer = issuers.get(row.iss) ?? []
    issuers.set(row.iss, ofIssuer)
    if (row.id === null) continue
    const binding = toBinding({ ...row, id: row.id })
    ofIssuer.push(binding)
    bindings.set(binding.id, binding)
  }
  return { revision: rows[0]?.revision ?? 0, issuers, bindings }
}

function toBinding(row: RegistryRow & { readonly id: BindingId }): Binding {
  const settings: StoredSettings = { ...row.defaults, ...row.settings }
  return {
    id: row.id,
    kind: 'backchannel',
    issuer: row.name,
    iss: row.iss,
    clientId: row.client_id,
    uri: row.uri,
    sessionRequired: row.metadata.backchannel_logout_session_required === true,
    // Checked when it was registered; RS256 where none was (OIDC Dynamic Registration 2).
    algorithm: (row.metadata.id_token_signed_response_alg ?? 'RS256') as SigningAlgorithm,
    subjectClaims: settings.subject_claims ?? 'both',
    timeoutMs: settings.timeout_ms ?? 10_000,
    concurrency: settings.concurrency ?? null,
    ratePerSecond: settings.rate_per_second ?? null,
    retry: {
      ...DEFAULT_RETRY_POLICY,
      scheduleMs: settings.retry_schedule_ms ?? DEFAULT_RETRY_POLICY.scheduleMs,
    },
    allowedNetworks: settings.allowed_networks ?? [],
    tls: toTls(settings.tls),
    encryption: toEncryption(row.metadata),
    disabledReason: row.disabled_reason,
  }
}

function isUniqueViolation(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === '23505'
}
