import {
  type ChannelSettings,
  type ClientId,
  type IssuerName,
  type Level,
  MAIN_ENDPOINT,
  type Names,
  type NetworkRule,
  type Offer,
  type Step,
  type SubjectType,
} from '@curfew/domain'
import { type Change, writeAudit } from '../access/audit.ts'
import { dropAuditSetup } from '../logout-audits/setups.ts'
import { type Database, type Queryable, withTransaction } from '../postgres/database.ts'
import { bumpRegistry, lockRegistry, type StoredSettings } from './registry.ts'

/** Client metadata as its owner gave it, including members that Curfew does not know. */
export type StoredMetadata = Readonly<Record<string, unknown>>

/** One endpoint of a relying party. */
export interface EndpointRecord {
  /** The kind of its channel. */
  readonly kind: string
  readonly name: string
  readonly uri: string
  /** Settings of its channel. */
  readonly settings: ChannelSettings
  /** Null if Curfew sends to it. */
  readonly offer: Offer | null
  readonly names: Names
  readonly step: Step
  readonly widens: boolean
  readonly always: boolean
  /** Default: false. */
  readonly posted?: boolean
  /** The secret that Curfew sends to it, a compact JWE under the master key; null without one. */
  readonly sealedSecret: string | null
  /** The lowest level of acknowledgement that keeps the promise. */
  readonly counts: Level
  /** The kind of the channel that it is a fallback for; null if it is required. */
  readonly fallbackFor: string | null
  /** Why it is disabled, for people; null if it is enabled. */
  readonly disabledReason: string | null
}

export interface RelyingPartyRecord {
  readonly issuer: IssuerName
  readonly clientId: ClientId
  readonly metadata: StoredMetadata
  readonly settings: StoredSettings
  /** The networks that a credential of a higher rank than its owner's set; null if none did. */
  readonly networkRule: NetworkRule | null
  readonly clientName: string | null
  /** The subject type that its metadata states; null if it states none. */
  readonly subjectType: SubjectType | null
  /** Sorted by channel and name, `main` first. */
  readonly endpoints: readonly EndpointRecord[]
  /** Changes with every change of the relying party. */
  readonly revision: number
  readonly createdAt: Date
  readonly updatedAt: Date
}

const COLUMNS = `p.issuer, p.client_id as "clientId", p.metadata, p.settings, p.network_rule as "networkRule", p.client_name as "clientName", p.subject_type as "subjectType",
  p.revision, p.created_at as "createdAt",
  p.updated_at as "updatedAt",
  array(select jsonb_build_object('kind', kind, 'name', endpoint, 'uri', uri, 'settings', settings, 'offer', offer, 'names', names, 'step', step,
                 'widens', widens, 'always', always, 'sealedSecret', sealed_secret, 'counts', counts, 'fallbackFor', fallback_for, 'disabledReason', disabled_reason)
          from bindings where relying_party_id = p.id and registered
         order by kind, endpoint <> '${MAIN_ENDPOINT}', endpoint collate "C") as endpoints`

const FIND_RELYING_PARTIES = `
  select ${COLUMNS} from relying_parties p
   where p.issuer = $1 and p.client_id = any($2::text[]) and p.deleted_at is null`

/** Finds the registered relying parties among `clientIds`. */
export async function findRelyingParties(
  db: Queryable,
  { issuer, clientIds }: { issuer: string; clientIds: readonly string[] },
): Promise<ReadonlyMap<string, RelyingPartyRecord>> {
  const { rows } = await db.query<RelyingPartyRecord>({
    name: 'find_relying_parties',
    text: FIND_RELYING_PARTIES,
    values: [issuer, clientIds],
  })
  return new Map(rows.map((row) => [row.clientId, row]))
}

export async function findRelyingParty(
  db: Queryable,
  { issuer, clientId }: { issuer: string; clientId: string },
): Promise<RelyingPartyRecord | null> {
  return (await findRelyingParties(db, { issuer, clientIds: [clientId] })).get(clientId) ?? null
}

const FIND_RULES_LEFT = `
  select client_id as "clientId", network_rule as "networkRule" from relying_parties
   where issuer = $1 and client_id = any($2::text[]) and deleted_at is not null and network_rule is not null`

/** Finds the network rules of removed relying parties. They bind the credential that registers the clients again. */
export async function findNetworkRulesLeft(
  db: Queryable,
  { issuer, clientIds }: { issuer: string; clientIds: readonly string[] },
): Promise<ReadonlyMap<string, NetworkRule>> {
  const { rows } = await db.query<{ clientId: string; networkRule: NetworkRule }>({
    name: 'find_network_rules_left',
    text: FIND_RULES_LEFT,
    values: [issuer, clientIds],
  })
  return new Map(rows.map(({ clientId, networkRule }) => [clientId, networkRule]))
}

const LIST_RELYING_PARTIES = `
  select ${COLUMNS} from relying_parties p
   where p.issuer = $1 and p.client_id > $2 and p.deleted_at is null
     and ($4::text[] is null or p.client_id = any($4))
     and (not $5::boolean or (select bool_and(b.names = 'any') from bindings b where b.relying_party_id = p.id and b.registered))
   order by p.client_id limit $3`

/**
 * Lists relying parties of an issuer by `client_id`.
 *
 * @param after the last `client_id` of the page before, or the empty string.
 * @param only the clients that the caller may see; null: all.
 * @param resourceServers true: only those that do nothing but read the cutoff feed. Default false.
 */
export async function listRelyingParties(
  db: Queryable,
  {
    issuer,
    after,
    limit,
    only,
    resourceServers = false,
  }: {
    issuer: string
    after: string
    limit: number
    only: readonly string[] | null
    resourceServers?: boolean
  },
): Promise<readonly RelyingPartyRecord[]> {
  const { rows } = await db.query<RelyingPartyRecord>({
    name: 'list_relying_parties',
    text: LIST_RELYING_PARTIES,
    values: [issuer, after, limit, only, resourceServers],
  })
  return rows
}

const REMOVE_RELYING_PARTY = `
  with removed as (
    update relying_parties
       set deleted_at = now(), updated_at = now(), revision = $3, metadata = '{}', settings = '{}', network_rule = $4, subject_type = null
     where issuer = $1 and client_id = $2
    returning id
  )
  update bindings set registered = false, sealed_secret = null where relying_party_id = (select id from removed)`

export type RemoveRelyingPartyResult =
  | { readonly ok: true; readonly waiting: number }
  | { readonly ok: false; readonly conflict: 'none' | 'stale' }

/**
 * Removes a relying party. It is owed no new deliveries, and waiting ones become dead letters with the reason `client_removed`.
 * Its history and name stay. The set-up of its logout audits is deleted.
 */
export async function removeRelyingParty(
  db: Database,
  { issuer, clientId }: { issuer: string; clientId: string },
  {
    expected,
    ruleLeft,
    audit,
  }: {
    expected: (before: RelyingPartyRecord | null) => boolean
    /** Computes the network rule that stays after the removal. */
    ruleLeft: (rule: NetworkRule | null) => NetworkRule | null
    audit: Change<RelyingPartyRecord>
  },
): Promise<RemoveRelyingPartyResult> {
  return withTransaction(db, async (transaction) => {
    const revision = await lockRegistry(transaction)
    const before = await findRelyingParty(transaction, { issuer, clientId })
    if (!expected(before)) return { ok: false, conflict: 'stale' }
    if (before === null) return { ok: false, conflict: 'none' }
    const left = ruleLeft(before.networkRule)
    await transaction.query(REMOVE_RELYING_PARTY, [issuer, clientId, revision + 1, left])
    await dropAuditSetup(transaction, { issuer, clientId })
    await bumpRegistry(transaction)
    await writeAudit(transaction, audit(before, null))
    return { ok: true, waiting: await countWaiting(transaction, { issuer, clientId }) }
  })
}

/** Most waiting deliveries that are counted for one relying party or endpoint. */
export const WAITING_MAX = 100_000

const COUNT_WAITING = `
  select count(*) as count from (
    select from deliveries
     where due_at is not null and binding_id = any(array(
       select b.id from bindings b join relying_parties p on p.id = b.relying_party_id
        where p.issuer = $1 and p.client_id = $2))
     limit $3
  ) waiting`

/** Counts the deliveries that wait for a relying party, up to `WAITING_MAX`. */
export async function countWaiting(
  db: Queryable,
  { issuer, clientId }: { issuer: string; clientId: string },
): Promise<number> {
  const { rows } = await db.query<{ count: number }>(COUNT_WAITING, [issuer, clientId, WAITING_MAX])
  return rows[0]?.count ?? 0
}
