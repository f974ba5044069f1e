import type { Issuer } from '@curfew/domain'
import type { Database } from '../postgres/database.ts'

/** An entry of a feed: its key (16 bytes in base64url), and the time of the cutoff in whole seconds since 1970. */
export type CutoffEntry = readonly [key: string, before: number]

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
  /**
   * `closed`: its issuer has no resource server, so that logouts make no entries. `filling`: recent logouts are still being added.
   */
  readonly kind: 'open' | 'filling' | 'closed'
  /** The number of its last entry; 0 if it never had one. */
  readonly seq: number
  /** The last live cutoff of everybody, in whole seconds since 1970; null without one. */
  readonly everybodyBefore: number | null
}

const READ_STATE = `
  select case when f.iss is null or not exists (
             select from issuers i
               join relying_parties p on p.issuer = i.name and p.deleted_at is null
               join bindings b on b.relying_party_id = p.id and b.registered and b.names = 'any'
              where i.iss = $1 and i.deleted_at is null) then 'closed'
           when f.backfill_from is not null then 'filling' else 'open' end as kind,
         coalesce(f.seq, 0) as seq,
         (select max(before) from cutoffs where iss = $1 and key is null and expires_at > now()) as "everybodyBefore"
    from (values ($1::text)) as asked(iss) left join cutoff_feeds f using (iss)`

export async function readCutoffState(db: Database, iss: Issuer): Promise<CutoffState> {
  const { rows } = await db.query<CutoffState>({ name: 'read_cutoff_state', text: READ_STATE, values: [iss] })
  return rows[0] ?? { kind: 'closed', seq: 0, everybodyBefore: null }
}

// Of several cutoffs of one key the latest covers the others.
const READ_CUTOFFS = `
  select translate(rtrim(encode(key, 'base64'), '='), '+/', '-_') as key, max(before) as before
    from cutoffs where iss = $1 and seq > $2 and expires_at > now() and key is not null group by key`
const COUNT_CUTOFFS = `
  select count(*)::int as entries
    from (select from cutoffs where iss = $1 and seq > $2 and expires_at > now() and key is not null limit $3) counted`

/** Reads the live entries after a number, in no order. Null if there are more than `limit`; without one (null) none are too many. */
export async function readCutoffs(
  db: Database,
  { iss, after, limit }: { iss: Issuer; after: number; limit: number | null },
): Promise<readonly CutoffEntry[] | null> {
  if (limit !== null) {
    const counted = await db.query<{ entries: number }>({
      name: 'count_cutoffs',
      text: COUNT_CUTOFFS,
      values: [iss, after, limit + 1],
    })
    if ((counted.rows[0]?.entries ?? 0) > limit) return null
  }
  const { rows } = await db.query<{ key: string; before: number }>({
    name: 'read_cutoffs',
    text: READ_CUTOFFS,
    values: [iss, after],
  })
  return rows.map(({ key, before }) => [key, before])
}

// The oldest plan that is not in the feed yet.
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

// The number of an entry is the time of its making or later, in milliseconds since 1970. A logout that was posted late is expired at
// once, and its readers still have to apply its number.
const DROP_EXPIRED = `
  delete from cutoffs where (iss, seq) in (
    select iss, seq from cutoffs
     where expires_at < now() and seq < extract(epoch from now() - interval '10 minutes') * 1000
     order by expires_at limit $1)`

/** Deletes entries that cut off no token any more. @returns their number. */
export async function dropExpiredCutoffs(db: Database, { limit }: { limit: number }): Promise<number> {
  const { rowCount } = await db.query({ name: 'drop_expired_cutoffs', text: DROP_EXPIRED, values: [limit] })
  return rowCount ?? 0
}
