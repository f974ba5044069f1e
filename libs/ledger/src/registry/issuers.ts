import { isDeepStrictEqual } from 'node:util'
import type {
  Issuer,
  IssuerName,
  NetworkRule,
  RelaySettings,
  SessionIndexUse,
  Strategy,
  SubjectType,
} from '@curfew/domain'
import { type Change, writeAudit } from '../access/audit.ts'
import { type Database, type Queryable, withTransaction } from '../postgres/database.ts'
import { namedParameters } from '../postgres/parameters.ts'
import { closeEndlessGap, lockGaps } from '../sessions/quotas.ts'
import { writeEndpoints } from './put.ts'
import { bumpRegistry, lockRegistry, relaySettingsOf, type StoredSettings } from './registry.ts'
import { type EndpointRecord, listRelyingParties, type RelyingPartyRecord } from './relying-parties.ts'

/** Quotas of one issuer; null: the quota of the deployment. */
export interface IssuerQuotas {
  readonly sessions: number | null
  readonly relyingParties: number | null
}

/** An issuer to register. Quotas that are left out stay as they are. */
export type IssuerDraft = Omit<
  IssuerRecord,
  'quotas' | 'networkRule' | 'subjectType' | 'cutoffs' | 'strategy' | 'revision' | 'createdAt' | 'updatedAt'
> & {
  /** Default: one hour, and not widened. */
  readonly cutoffs?: CutoffSettings
  /** Default: none. */
  readonly strategy?: Strategy | null
  /** Default: public. */
  readonly subjectType?: SubjectType
  readonly quotas?: Partial<IssuerQuotas>
  /** If left out, the rule stays as it is. */
  readonly networkRule?: NetworkRule | null
}

/** How the cutoff feed of an issuer treats its logouts. */
export interface CutoffSettings {
  /** The longest life of its access tokens, in seconds. */
  readonly maxTokenTtlS: number
  /** Whether the logout of one session also cuts off the older tokens of its subject. */
  readonly widenToSubject: boolean
}

export interface IssuerRecord {
  readonly name: IssuerName
  readonly iss: Issuer
  readonly slaWithinMs: number
  readonly slaObjective: number
  /** Window of the error budget, in days. */
  readonly slaWindowDays: number
  /** Whether its sessions have a sid. */
  readonly sidSupported: boolean
  /** How planning uses the issuer's sessions in the index. */
  readonly sessionIndex: SessionIndexUse
  /** The subject type of its relying parties that state none. */
  readonly subjectType: SubjectType
  readonly relay: RelaySettings
  readonly cutoffs: CutoffSettings
  /** Null if it has none. */
  readonly strategy: Strategy | null
  readonly quotas: IssuerQuotas
  readonly defaults: StoredSettings
  /** The networks that an unbound admin set; null if none did. */
  readonly networkRule: NetworkRule | null
  /** Changes with every change of the issuer. */
  readonly revision: number
  readonly createdAt: Date
  readonly updatedAt: Date
}

const DEFAULT_CUTOFFS: CutoffSettings = { maxTokenTtlS: 3_600, widenToSubject: false }

const COLUMNS = `name, iss, sla_within_ms as "slaWithinMs", sla_objective as "slaObjective",
  sla_window_days as "slaWindowDays", sid_supported as "sidSupported", session_index as "sessionIndex", subject_type as "subjectType",
  ${relaySettingsOf('issuers')} as relay,
  jsonb_build_object('maxTokenTtlS', max_token_ttl, 'widenToSubject', widen_to_subject) as cutoffs, strategy,
  jsonb_build_object('sessions', sessions_max, 'relyingParties', relying_parties_max) as quotas, defaults,
  network_rule as "networkRule", revision, created_at as "createdAt", updated_at as "updatedAt"`

const FIND_ISSUER = `select ${COLUMNS} from issuers where name = $1 and deleted_at is null`

export async function findIssuer(db: Queryable, name: string): Promise<IssuerRecord | null> {
  const { rows } = await db.query<IssuerRecord>({ name: 'find_issuer', text: FIND_ISSUER, values: [name] })
  return rows[0] ?? null
}

const FIND_ISSUER_RULE = 'select network_rule as "networkRule" from issuers where name = $1'

/** Finds the network rule of an issuer, registered or removed. */
export async function findIssuerNetworkRule(db: Queryable, name: string): Promise<NetworkRule | null> {
  const { rows } = await db.query<{ networkRule: NetworkRule | null }>({
    name: 'find_issuer_network_rule',
    text: FIND_ISSUER_RULE,
    values: [name],
  })
  return rows[0]?.networkRule ?? null
}

const LIST_ISSUERS = `
  select ${COLUMNS} from issuers
   where deleted_at is null and name > $1 and ($3::text is null or name = $3)
   order by name limit $2`

/**
 * Lists issuers by name.
 *
 * @param after the last name of the page before, or the empty string.
 * @param only the issuer that the caller may see; null: all.
 */
export async function listIssuers(
  db: Database,
  { after, limit, only }: { after: string; limit: number; only: string | null },
): Promise<readonly IssuerRecord[]> {
  const { rows } = await db.query<IssuerRecord>({
    name: 'list_issuers',
    text: LIST_ISSUERS,
    values: [after, limit, only],
  })
  return rows
}

const ISSUER = namedParameters({
  name: 'text',
  iss: 'text',
  sla_within_ms: 'integer',
  sla_objective: 'float8',
  defaults: 'jsonb',
  sid_supported: 'boolean',
  session_index: 'text',
  subject_type: 'text',
  sla_window_days: 'integer',
  jwks_uri: 'text',
  lenient_logout_tokens: 'boolean',
  widen: 'boolean',
  max_token_ttl: 'integer',
  widen_to_subject: 'boolean',
  strategy: 'text',
  sessions_max: 'bigint',
  relying_parties_max: 'integer',
  network_rule: 'jsonb',
})
/** Whether the draft has a member that stays as it is if left out. */
const GIVEN = namedParameters({ sessions: 'boolean', parties: 'boolean', rule: 'boolean' }, { after: ISSUER })
const REVISION = namedParameters({ revision: 'bigint' }, { after: GIVEN })
const { $ } = ISSUER

// A removed issuer may be registered again, only under its old name: its history and keys are stored under that name.
const PUT_ISSUER = `
  insert into issuers (${ISSUER.names}, ${REVISION.names}) values (${ISSUER.list}, ${REVISION.list})
  on conflict (name) do update
     set sla_within_ms = excluded.sla_within_ms, sla_objective = excluded.sla_objective,
         defaults = excluded.defaults, subject_type = excluded.subject_type, sid_supported = excluded.sid_supported,
         session_index = excluded.session_index, sla_window_days = excluded.sla_window_days,
         jwks_uri = excluded.jwks_uri, lenient_logout_tokens = excluded.lenient_logout_tokens, widen = excluded.widen,
         max_token_ttl = excluded.max_token_ttl, widen_to_subject = excluded.widen_to_subject, strategy = excluded.strategy,
         sessions_max = case when ${GIVEN.$.sessions} then excluded.sessions_max else issuers.sessions_max end,
         relying_parties_max = case when ${GIVEN.$.parties} then excluded.relying_parties_max else issuers.relying_parties_max end,
         network_rule = case when ${GIVEN.$.rule} then excluded.network_rule else issuers.network_rule end,
         revision = excluded.revision,
         created_at = case when issuers.deleted_at is null then issuers.created_at else now() end,
         updated_at = now(), deleted_at = null
   where issuers.iss = excluded.iss
  returning ${COLUMNS}`

const SAME_ISSUER = `
  select 1 from issuers
   where name = ${$.name} and iss = ${$.iss} and sla_within_ms = ${$.sla_within_ms} and sla_objective = ${$.sla_objective}
     and defaults = ${$.defaults} and sid_supported = ${$.sid_supported} and session_index = ${$.session_index}
     and subject_type = ${$.subject_type}
     and sla_window_days = ${$.sla_window_days} and jwks_uri is not distinct from ${$.jwks_uri}
     and lenient_logout_tokens = ${$.lenient_logout_tokens} and widen = ${$.widen}
     and max_token_ttl = ${$.max_token_ttl} and widen_to_subject = ${$.widen_to_subject} and strategy is not distinct from ${$.strategy}
     and (not ${GIVEN.$.sessions} or sessions_max is not distinct from ${$.sessions_max})
     and (not ${GIVEN.$.parties} or relying_parties_max is not distinct from ${$.relying_parties_max})
     and (not ${GIVEN.$.rule} or network_rule is not distinct from ${$.network_rule}) and deleted_at is null`

export type PutIssuerResult =
  | { readonly ok: true; readonly created: boolean; readonly issuer: IssuerRecord }
  /**
   * `stale`: `expected` does not accept its present state. `iss_changed`: the name has another `iss`. `iss_taken`: another name
   * has this `iss`, or had it.
   */
  | { readonly ok: false; readonly conflict: 'stale' | 'iss_changed' | 'iss_taken' }

/**
 * Registers an issuer, or replaces all of it except its `iss`: its history is stored under the `iss`. A call that changes nothing
 * writes no revision and no audit record.
 *
 * @param expected whether the present state of the issuer may be changed (null: it is not registered).
 * @param endpointsOf the endpoints of its relying parties under its new defaults.
 */
export async function putIssuer(
  db: Database,
  issuer: IssuerDraft,
  {
    expected = () => true,
    endpointsOf = ({ endpoints }) => endpoints,
    audit,
  }: {
    expected?: (before: IssuerRecord | null) => boolean
    endpointsOf?: EndpointsOf
    audit: Change<IssuerRecord>
  },
): Promise<PutIssuerResult> {
  const { name, quotas, networkRule, cutoffs = DEFAULT_CUTOFFS } = issuer
  const values = [
    ...ISSUER.values({
      name,
      iss: issuer.iss,
      sla_within_ms: issuer.slaWithinMs,
      sla_objective: issuer.slaObjective,
      defaults: JSON.stringify(issuer.defaults),
      sid_supported: issuer.sidSupported,
      session_index: issuer.sessionIndex,
      subject_type: issuer.subjectType ?? 'public',
      sla_window_days: issuer.slaWindowDays,
      jwks_uri: issuer.relay.jwksUri,
      lenient_logout_tokens: issuer.relay.lenient,
      widen: issuer.relay.widen,
      max_token_ttl: cutoffs.maxTokenTtlS,
      widen_to_subject: cutoffs.widenToSubject,
      strategy: issuer.strategy ?? null,
      sessions_max: quotas?.sessions ?? null,
      relying_parties_max: quotas?.relyingParties ?? null,
      network_rule: networkRule == null ? null : JSON.stringify(networkRule),
    }),
    ...GIVEN.values({
      sessions: quotas?.sessions !== undefined,
      parties: quotas?.relyingParties !== undefined,
      rule: networkRule !== undefined,
    }),
  ]
  try {
    return await withTransaction(db, async (transaction) => {
      if (issuer.sessionIndex === 'complete') await lockGaps(transaction, issuer.iss)
      const revision = await lockRegistry(transaction)
      const before = await findIssuer(transaction, name)
      if (!expected(before)) return { ok: false, conflict: 'stale' }
      const { rows: same } = await transaction.query(SAME_ISSUER, values)
      if (before !== null && same.length > 0) return { ok: true, created: false, issuer: before }
      const { rows } = await transaction.query<IssuerRecord>({
        name: 'put_issuer',
        text: PUT_ISSUER,
        values: [...values, ...REVISION.values({ revision: revision + 1 })],
      })
      const [after] = rows
      if (after === undefined) return { ok: false, conflict: 'iss_changed' }
      if (before !== null && !isDeepStrictEqual(inherited(before), inherited(after)))
        await applyDefaults(transaction, after, endpointsOf)
      if (after.sessionIndex === 'complete' && before?.sessionIndex !== 'complete')
        await closeEndlessGap(transaction, after.iss)
      await bumpRegistry(transaction)
      await writeAudit(transaction, audit(before, after))
      return { ok: true, created: before === null, issuer: after }
    })
  } catch (error) {
    if (isUniqueViolation(error)) return { ok: false, conflict: 'iss_taken' }
    throw error
  }
}

/** The settings that the endpoints of relying parties depend on. */
const inherited = ({ defaults, cutoffs, strategy }: IssuerRecord) => ({ defaults, cutoffs, strategy })

/** Computes the endpoints of a relying party under the defaults of its issuer. */
export type EndpointsOf = (party: RelyingPartyRecord, issuer: IssuerRecord) => readonly EndpointRecord[]

const TOUCH_RELYING_PARTIES =
  'update relying_parties set revision = $3 where issuer = $1 and client_id = any($2::text[])'

/** Number of relying parties whose endpoints are handled together. */
const PARTIES_AT_ONCE = 500

/** Applies the defaults of an issuer to the endpoints of all its relying parties. */
async function applyDefaults(
  transaction: Queryable,
  issuer: IssuerRecord,
  endpointsOf: EndpointsOf,
): Promise<void> {
  for (let after: string | undefined = ''; after !== undefined; ) {
    const parties: readonly RelyingPartyRecord[] = await listRelyingParties(transaction, {
      ...{ issuer: issuer.name, after, limit: PARTIES_AT_ONCE, only: null },
    })
    const changed = parties
      .map((party) => ({ party, endpoints: endpointsOf(party, issuer) }))
      .filter(({ party, endpoints }) => !isDeepStrictEqual(endpoints, party.endpoints))
      .map(({ party: { clientId }, endpoints }) => ({ clientId, endpoints }))
    if (changed.length > 0) {
      await writeEndpoints(transaction, issuer.name, changed)
      const clientIds = changed.map(({ clientId }) => clientId)
      await transaction.query(TOUCH_RELYING_PARTIES, [issuer.name, clientIds, issuer.revision])
    }
    after = parties.at(-1)?.clientId
  }
}

const COUNT_PARTIES = `
  select count(*) as count from relying_parties where issuer = $1 and deleted_at is null`
const REMOVE_ISSUER =
  'update issuers set deleted_at = now(), revision = $2, network_rule = $3 where name = $1'

export type RemoveIssuerResult =
  | { readonly ok: true; readonly issuer: IssuerRecord }
  | { readonly ok: false; readonly conflict: 'none' }
  | { readonly ok: false; readonly conflict: 'stale' }
  | { readonly ok: false; readonly conflict: 'in_use'; readonly relyingParties: number }

/** Removes an issuer without relying parties. Its history and keys stay, in case it is registered again. */
export async function removeIssuer(
  db: Database,
  name: string,
  {
    expected,
    ruleLeft,
    audit,
  }: {
    expected: (before: IssuerRecord | null) => boolean
    /** Computes the network rule that stays after the removal. */
    ruleLeft: (rule: NetworkRule | null) => NetworkRule | null
    audit: Change<IssuerRecord>
  },
): Promise<RemoveIssuerResult> {
  return withTransaction(db, async (transaction) => {
    const revision = await lockRegistry(transaction)
    const before = await findIssuer(transaction, name)
    if (!expected(before)) return { ok: false, conflict: 'stale' }
    if (before === null) return { ok: false, conflict: 'none' }
    const { rows } = await transaction.query<{ count: number }>(COUNT_PARTIES, [name])
    const relyingParties = rows[0]?.count ?? 0
    if (relyingParties > 0) return { ok: false, conflict: 'in_use', relyingParties }
    await transaction.query(REMOVE_ISSUER, [name, revision + 1, ruleLeft(before.networkRule)])
    await bumpRegistry(transaction)
    await writeAudit(transaction, audit(before, null))
    return { ok: true, issuer: before }
  })
}

function isUniqueViolation(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === '23505'
}
