import type { IssuerName } from '@curfew/domain'
import { type Change, writeAudit } from '../access/audit.ts'
import { type Database, type Queryable, withTransaction } from '../postgres/database.ts'
import {
  COUNT_REGISTERED,
  HOLD_ISSUER,
  outcomeOf,
  type PutOutcome,
  type PutRelyingPartiesResult,
  type RelyingPartyDraft,
  writeRelyingParties,
} from './put.ts'
import { bumpRegistry, lockRegistry } from './registry.ts'
import { findRelyingParties, type RelyingPartyRecord } from './relying-parties.ts'

/** A relying party to import, with the members that are checked for all of them together. */
export type RelyingPartyOutline = Pick<RelyingPartyDraft, 'clientId'> & {
  /** The revision that the draft was made from; null if the client was not registered. */
  readonly expected: number | null
}

export interface ImportRelyingParties {
  readonly issuer: IssuerName
  /** The revision of the issuer whose defaults are in the drafts. */
  readonly issuerRevision: number
  /** All relying parties. No client comes twice. */
  readonly outlines: readonly RelyingPartyOutline[]
  /** The full drafts in the order of the outlines, a few at a time. */
  readonly drafts: () => AsyncIterable<readonly RelyingPartyDraft[]>
  readonly audit: Change<RelyingPartyRecord>
  /** Most relying parties of an issuer without its own quota. */
  readonly quota: number
  /** True: finds the outcome and changes nothing. */
  readonly dryRun: boolean
}

export type ImportRelyingPartiesResult =
  | { readonly ok: true; readonly counts: Readonly<Record<PutOutcome, number>> }
  | Exclude<PutRelyingPartiesResult, { readonly ok: true }>

const REVISIONS = `
  select client_id as "clientId", revision from relying_parties
   where issuer = $1 and client_id = any($2::text[]) and deleted_at is null`

/**
 * Registers thousands of relying parties of one issuer, like `putRelyingParties`: all or none, as one change of the registry.
 * Holds only as many drafts in memory as `drafts` yields at a time.
 */
export async function importRelyingParties(
  db: Database,
  { issuer, issuerRevision, outlines, drafts, audit, quota, dryRun }: ImportRelyingParties,
): Promise<ImportRelyingPartiesResult> {
  return withTransaction(db, async (transaction) => {
    const revision = await lockRegistry(transaction)
    const held = await transaction.query<{ quota: number | null; revision: number }>(HOLD_ISSUER, [issuer])
    if (held.rows[0] === undefined) return { ok: false, conflict: 'no_issuer' }
    if (held.rows[0].revision !== issuerRevision) return { ok: false, conflict: 'stale' }
    const known = await revisionsOf(transaction, { issuer, outlines })
    if (outlines.some(({ clientId, expected }) => (known.get(clientId) ?? null) !== expected))
      return { ok: false, conflict: 'stale' }
    const created = outlines.length - known.size
    const { rows } = await transaction.query<{ count: number }>(COUNT_REGISTERED, [issuer])
    const registered = rows[0]?.count ?? 0
    const most = held.rows[0].quota ?? quota
    // Existing relying parties may be changed even if they exceed the quota.
    if (created > 0 && registered + created > most)
      return { ok: false, conflict: 'quota', registered, created, quota: most }

    const counts: Record<PutOutcome, number> = { created: 0, changed: 0, unchanged: 0 }
    for await (const some of drafts()) {
      const before = await findRelyingParties(transaction, {
        issuer,
        clientIds: some.map(({ clientId }) => clientId),
      })
      const changed = some.filter((draft) => {
        const outcome = outcomeOf(draft, before.get(draft.clientId))
        counts[outcome] += 1
        return outcome !== 'unchanged'
      })
      if (!dryRun && changed.length > 0)
        await write(transaction, { issuer, changed, before, audit, revision: revision + 1 })
    }
    if (!dryRun && counts.created + counts.changed > 0) await bumpRegistry(transaction)
    return { ok: true, counts }
  })
}

async function revisionsOf(
  transaction: Queryable,
  { issuer, outlines }: Pick<ImportRelyingParties, 'issuer' | 'outlines'>,
): Promise<ReadonlyMap<string, number>> {
  const { rows } = await transaction.query<{ clientId: string; revision: number }>({
    text: REVISIONS,
    values: [issuer, outlines.map(({ clientId }) => clientId)],
  })
  return new Map(rows.map(({ clientId, revision }) => [clientId, revision]))
}

async function write(
  transaction: Queryable,
  {
    issuer,
    changed,
    before,
    audit,
    revision,
  }: Pick<ImportRelyingParties, 'issuer' | 'audit'> & {
    readonly changed: readonly RelyingPartyDraft[]
    readonly before: ReadonlyMap<string, RelyingPartyRecord>
    readonly revision: number
  },
): Promise<void> {
  await writeRelyingParties(transaction, issuer, changed, revision)
  const clientIds = changed.map(({ clientId }) => clientId)
  const after = await findRelyingParties(transaction, { issuer, clientIds })
  const notes = clientIds.map((id) => audit(before.get(id) ?? null, after.get(id) ?? null))
  await writeAudit(transaction, ...notes)
}
