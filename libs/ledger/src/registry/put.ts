import { isDeepStrictEqual } from 'node:util'
import type { IssuerName } from '@curfew/domain'
import { type Change, writeAudit } from '../access/audit.ts'
import { openFeed } from '../cutoffs/projection.ts'
import { type Database, type Queryable, withTransaction } from '../postgres/database.ts'
import { rowParameters } from '../postgres/parameters.ts'
import { bumpRegistry, lockRegistry } from './registry.ts'
import { findRelyingParties, type RelyingPartyRecord } from './relying-parties.ts'

/** A relying party to register, complete. */
export type RelyingPartyDraft = Omit<
  RelyingPartyRecord,
  'networkRule' | 'subjectType' | 'revision' | 'createdAt' | 'updatedAt'
> & {
  /** Default: none. */
  readonly networkRule?: RelyingPartyRecord['networkRule']
  /** Default: none. */
  readonly subjectType?: RelyingPartyRecord['subjectType']
}

export type PutOutcome = 'created' | 'changed' | 'unchanged'

export type PutRelyingPartiesResult =
  | {
      readonly ok: true
      /** In the order of the drafts. */
      readonly outcomes: readonly PutOutcome[]
      /** The relying parties after the call, by client. */
      readonly parties: ReadonlyMap<string, RelyingPartyRecord>
    }
  /** `stale`: a relying party or the issuer has another revision than expected. */
  | { readonly ok: false; readonly conflict: 'stale' | 'no_issuer' }
  /** The issuer would exceed its quota of relying parties. */
  | {
      readonly ok: false
      readonly conflict: 'quota'
      readonly registered: number
      readonly created: number
      readonly quota: number
    }

export const HOLD_ISSUER =
  'select relying_parties_max as "quota", revision from issuers where name = $1 and deleted_at is null'
export const COUNT_REGISTERED =
  'select count(*) as count from relying_parties where issuer = $1 and deleted_at is null'

// A removed relying party that is registered again gets a new creation time.
const PARTIES = rowParameters<RelyingPartyDraft>(
  {
    client_id: ['text', ({ clientId }) => clientId],
    metadata: ['jsonb', ({ metadata }) => JSON.stringify(metadata)],
    settings: ['jsonb', ({ settings }) => JSON.stringify(settings)],
    client_name: ['text', ({ clientName }) => clientName],
    network_rule: ['jsonb', ({ networkRule }) => (networkRule == null ? null : JSON.stringify(networkRule))],
    subject_type: ['text', ({ subjectType }) => subjectType ?? null],
  },
  // The issuer and the revision.
  { after: { last: 2 } },
)
const PUT_RELYING_PARTIES = `
  insert into relying_parties (issuer, revision, ${PARTIES.names})
  select $1, $2, given.* from ${PARTIES.as('given')}
  on conflict (issuer, client_id) do update
     set metadata = excluded.metadata, settings = excluded.settings, client_name = excluded.client_name,
         network_rule = excluded.network_rule, subject_type = excluded.subject_type, revision = excluded.revision,
         created_at = case when relying_parties.deleted_at is null then relying_parties.created_at else now() end,
         updated_at = now(), deleted_at = null`

const PUT_BINDINGS = `
  with parties as (
    select id, client_id from relying_parties where issuer = $1 and client_id = any($2::text[])
  ),
  given as (
    select p.id as relying_party_id, g.*
      from jsonb_to_recordset($3) as g("clientId" text, kind text, name text, uri text, settings jsonb, offer jsonb, names text, step text,
             widens boolean, always boolean, posted boolean, "sealedSecret" text, counts text, "fallbackFor" text, "disabledReason" text)
      join parties p on p.client_id = g."clientId"
  ),
  withdrawn as (
    update bindings b set registered = false, sealed_secret = null
      from parties p
     where b.relying_party_id = p.id and b.registered
       and not exists (
         select from given g where g.relying_party_id = p.id and g.kind = b.kind and g.name = b.endpoint)
  )
  insert into bindings (relying_party_id, kind, endpoint, uri, settings, offer, names, step, widens, always, posted, sealed_secret, counts,
    fallback_for, disabled_reason, revision)
  select relying_party_id, kind, name, uri, settings, offer, names, step, widens, always, coalesce(posted, false), "sealedSecret", counts, "fallbackFor", "disabledReason",
         (select revision + 1 from registry_revision)
    from given
  on conflict (relying_party_id, kind, endpoint) do update
     set uri = excluded.uri, settings = excluded.settings, offer = excluded.offer, names = excluded.names, step = excluded.step, widens = excluded.widens,
         always = excluded.always, posted = excluded.posted,
         sealed_secret = excluded.sealed_secret, counts = excluded.counts, fallback_for = excluded.fallback_for,
         registered = true, disabled_reason = excluded.disabled_reason`

/** Replaces the endpoints of relying parties. The transaction holds the registry's lock, and increments its revision later. */
export async function writeEndpoints(
  transaction: Queryable,
  issuer: IssuerName,
  parties: readonly Pick<RelyingPartyDraft, 'clientId' | 'endpoints'>[],
): Promise<void> {
  const endpoints = parties.flatMap(({ clientId, endpoints }) =>
    endpoints.map((endpoint) => ({ ...endpoint, clientId })),
  )
  if (endpoints.some(({ names }) => names === 'any')) await openFeed(transaction, issuer)
  await transaction.query({
    name: 'put_bindings',
    text: PUT_BINDINGS,
    values: [issuer, parties.map(({ clientId }) => clientId), JSON.stringify(endpoints)],
  })
}

/**
 * Registers or replaces relying parties of one issuer: all or none, as one change of the registry. A draft that changes nothing
 * writes no revision and no audit record. An endpoint that is absent from its draft is owed no new deliveries.
 *
 * @param drafts no client comes twice.
 * @param expected by client: the revision that the draft was made from, or null if the client was not registered. A client with
 * another revision is stale. A client that is left out is not checked.
 * @param issuerRevision the revision of the issuer whose defaults are in the drafts. If the issuer has another, all drafts are
 * stale. If left out, it is not checked.
 * @param quota most relying parties of an issuer without its own quota.
 */
export async function putRelyingParties(
  db: Database,
  {
    issuer,
    drafts,
    expected = null,
    issuerRevision,
    audit,
    quota = Number.POSITIVE_INFINITY,
  }: {
    issuer: IssuerName
    drafts: readonly RelyingPartyDraft[]
    expected?: ReadonlyMap<string, number | null> | null
    issuerRevision?: number
    audit: Change<RelyingPartyRecord>
    quota?: number
  },
): Promise<PutRelyingPartiesResult> {
  const clientIds = drafts.map(({ clientId }) => clientId)
  return withTransaction(db, async (transaction) => {
    const revision = await lockRegistry(transaction)
    const held = await transaction.query<{ quota: number | null; revision: number }>(HOLD_ISSUER, [issuer])
    if (held.rows[0] === undefined) return { ok: false, conflict: 'no_issuer' }
    const most = held.rows[0].quota ?? quota
    const before = await findRelyingParties(transaction, { issuer, clientIds })
    const stale = clientIds.some((id) => {
      const revisionExpected = expected?.get(id)
      return revisionExpected !== undefined && (before.get(id)?.revision ?? null) !== revisionExpected
    })
    if (stale || (issuerRevision !== undefined && held.rows[0].revision !== issuerRevision))
      return { ok: false, conflict: 'stale' }
    const outcomes = drafts.map((draft) => outcomeOf(draft, before.get(draft.clientId)))
    const changed = drafts.filter((_, index) => outcomes[index] !== 'unchanged')
    if (changed.length === 0) return { ok: true, outcomes, parties: before }
    const created = outcomes.filter((outcome) => outcome === 'created').length
    if (created > 0) {
      const { rows } = await transaction.query<{ count: number }>(COUNT_REGISTERED, [issuer])
      const registered = rows[0]?.count ?? 0
      // Existing relying parties may be changed even if they exceed the quota.
      if (registered + created > most)
        return { ok: false, conflict: 'quota', registered, created, quota: most }
    }
    await writeRelyingParties(transaction, issuer, changed, revision + 1)
    await bumpRegistry(transaction)
    const parties = await findRelyingParties(transaction, { issuer, clientIds })
    const notes = changed.map(({ clientId }) =>
      audit(before.get(clientId) ?? null, parties.get(clientId) ?? null),
    )
    await writeAudit(transaction, ...notes)
    return { ok: true, outcomes, parties }
  })
}

export async function writeRelyingParties(
  transaction: Queryable,
  issuer: IssuerName,
  drafts: readonly RelyingPartyDraft[],
  revision: number,
): Promise<void> {
  await transaction.query({
    name: 'put_relying_parties',
    text: PUT_RELYING_PARTIES,
    values: [issuer, revision, ...PARTIES.values(drafts)],
  })
  await writeEndpoints(transaction, issuer, drafts)
}

/** The outcome of a draft, compared as JSON. A `client_id` that is repeated in the metadata, as in an export, is no change. */
export function outcomeOf(draft: RelyingPartyDraft, before: RelyingPartyRecord | undefined): PutOutcome {
  if (before === undefined) return 'created'
  const { revision: _, createdAt: __, updatedAt: ___, ...known } = before
  const given: RelyingPartyDraft = JSON.parse(JSON.stringify(draft))
  return isDeepStrictEqual(withClientId(given), withClientId(known)) ? 'unchanged' : 'changed'
}

function withClientId(draft: RelyingPartyDraft): RelyingPartyDraft {
  const { networkRule = null, subjectType = null, metadata, clientId } = draft
  return { ...draft, networkRule, subjectType, metadata: { ...metadata, client_id: clientId } }
}
