import type { Issuer } from '@curfew/domain'
import type { Database } from '../postgres/database.ts'

/** One entry of a feed. `key` is 16 bytes; null: the logout of everybody. `before` is in whole seconds since 1970. */
export interface CutoffEntry {
  readonly seq: number
  readonly key: Buffer | null
  readonly before: number
}

const READ_SEQS = 'select iss, seq from cutoff_feeds where iss = any($1::text[])'

/** The last numbers of feeds, by issuer. A feed without an entry is absent. */
export async function readCutoffSeqs(
  db: Database,
  issuers: readonly Issuer[],
): Promise<ReadonlyMap<Issuer, number>> {
  const { rows } = await db.query<{ iss: Issuer; seq: number }>({
    name: 'read_cutoff_seqs',
    text: READ_SEQS,
    values: [issuers],
  })
  return new Map(rows.map(({ iss, seq }) => [iss, seq]))
}

/** The state of a feed. */
export interface CutoffState {
  /** The number of its last entry; 0 if it never had one. */
  readonly seq: number
  /** The last live cutoff of everybody, in whole seconds since 1970; null without one. */
  readonly everybodyBefore: number | null
}

const READ_STATE = `
  select coalesce((select seq from cutoff_feeds where iss = $1), 0) as seq,
         (select max(before) from cutoffs where iss = $1 and key is null and expires_at > now()) as "everybodyBefore"`

export async function readCutoffState(db: Database, iss: Issuer): Promise<CutoffState> {
  const { rows } = await db.query<CutoffState>({ name: 'read_cutoff_state', text: READ_STATE, values: [iss] })
  return rows[0] ?? { seq: 0, everybodyBefore: null }
}

const READ_CUTOFFS = `
  select seq, key, before from cutoffs
   where iss = $1 and seq > $2 and expires_at > now() order by seq limit $3`

/** Reads the live entries after a number, in order. */
export async function readCutoffs(
  db: Database,
  { iss, after, limit }: { iss: Issuer; after: number; limit: number },
): Promise<readonly CutoffEntry[]> {
  const { rows } = await db.query<CutoffEntry>({
    name: 'read_cutoffs',
    text: READ_CUTOFFS,
    values: [iss, after, limit],
  })
  return rows
}

// What was planned and is not in the feed yet.
const READ_BEHIND = `
  select coalesce(extract(epoch from now() - min(at)), 0)::float8 * 1000 as ms
    from (
      (select at from journal where kind = 'planned' order by id limit 1)
      union all
      (select min(at) from journal_left where projector = 'cutoffs')
    ) waiting`

/** How far the feeds are behind the plans, in milliseconds: 0 if they have every planned logout. */
export async function readCutoffsBehind(db: Database): Promise<number> {
  const { rows } = await db.query<{ ms: number }>({ name: 'read_cutoffs_behind', text: READ_BEHIND })
  return rows[0]?.ms ?? 0
}

const DROP_EXPIRED = `
  delete from cutoffs where (iss, seq) in (
    select iss, seq from cutoffs where expires_at < now() order by expires_at limit $1)`

/** Deletes entries that cut off no token any more. @returns their number. */
export async function dropExpiredCutoffs(db: Database, { limit }: { limit: number }): Promise<number> {
  const { rowCount } = await db.query({ name: 'drop_expired_cutoffs', text: DROP_EXPIRED, values: [limit] })
  return rowCount ?? 0
}
