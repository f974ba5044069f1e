import type { BindingId, DeliveryId, IssuerName } from '@curfew/domain'
import { plainArray } from '../postgres/arrays.ts'
import type { Database } from '../postgres/database.ts'

/** A process that reads a feed for a resource server, and the number up to which it has applied the feed. */
export interface CutoffReader {
  readonly bindingId: BindingId
  /** The name that the process gave itself, or an empty text. */
  readonly reader: string
  readonly applied: number
}

// A reader that starts again from a snapshot may be behind what it said before, so the last number counts and not the highest.
const NOTE_READERS = `
  insert into cutoff_readers as r (binding_id, reader, applied)
  select * from unnest($1::bigint[], $2::text[], $3::bigint[]) as g(binding_id, reader, applied)
   order by binding_id, reader
  on conflict (binding_id, reader) do update set applied = excluded.applied, read_at = now()`

// A reader counts while it reads. One that has stopped knows that it is stale, and no longer vouches for its resource server.
const APPLIED = `
  select r.binding_id as "bindingId", d.id, d.seq
    from (
      select binding_id, min(applied) as applied from cutoff_readers
       where binding_id = any($1::bigint[]) and read_at > now() - make_interval(secs => $2::float8 / 1000)
       group by binding_id
    ) r
   cross join lateral (
     select w.id, w.event_id from deliveries w
      where w.binding_id = r.binding_id and w.due_at is not null and w.state = 'offered' order by w.due_at limit $3
   ) w
   cross join lateral (select w.id, max(c.seq) as seq from cutoffs c where c.event_id = w.event_id) d
   where d.seq <= r.applied`

/** Notes how far readers have read. No reader comes twice. */
export async function noteCutoffReaders(db: Database, readers: readonly CutoffReader[]): Promise<void> {
  if (readers.length === 0) return
  await db.query({
    name: 'note_cutoff_readers',
    text: NOTE_READERS,
    values: [
      plainArray(readers.map(({ bindingId }) => bindingId)),
      readers.map(({ reader }) => reader),
      plainArray(readers.map(({ applied }) => applied)),
    ],
  })
}

/**
 * The offered deliveries that every live reader of their resource server has applied, the oldest first.
 *
 * @param silentMs a reader that has not read for this long does not count.
 * @param limit most offered deliveries of one binding that are looked at.
 */
export async function findAppliedCutoffs(
  db: Database,
  { bindings, silentMs, limit }: { bindings: readonly BindingId[]; silentMs: number; limit: number },
): Promise<readonly { readonly bindingId: BindingId; readonly id: DeliveryId; readonly seq: number }[]> {
  const { rows } = await db.query<{ bindingId: BindingId; id: DeliveryId; seq: number }>({
    name: 'find_applied_cutoffs',
    text: APPLIED,
    values: [plainArray(bindings), silentMs, limit],
  })
  return rows
}

const REMOVE_READER = 'delete from cutoff_readers where binding_id = any($1::bigint[]) and reader = $2'

/** Removes a reader that stops: its resource server no longer waits for it. */
export async function removeCutoffReader(
  db: Database,
  { bindings, reader }: { bindings: readonly BindingId[]; reader: string },
): Promise<void> {
  await db.query({
    name: 'remove_cutoff_reader',
    text: REMOVE_READER,
    values: [plainArray(bindings), reader],
  })
}

const DROP_READERS = `
  delete from cutoff_readers where (binding_id, reader) in (
    select binding_id, reader from cutoff_readers where read_at < now() - interval '1 hour' order by read_at limit $1)`

/** Deletes readers that have not read for an hour. @returns their number. */
export async function dropCutoffReaders(db: Database, { limit }: { limit: number }): Promise<number> {
  const { rowCount } = await db.query({ name: 'drop_cutoff_readers', text: DROP_READERS, values: [limit] })
  return rowCount ?? 0
}

/** The readers of a resource server, and its offered deliveries. */
export interface FeedReaders {
  readonly readers: readonly { readonly reader: string; readonly applied: number; readonly readAt: Date }[]
  /** Counted up to `limit`. `since`: when the oldest was planned; null without one. */
  readonly offered: { readonly count: number; readonly since: Date | null }
}

const READERS_OF = `
  select reader, applied, read_at as "readAt" from cutoff_readers
   where binding_id = any($1::bigint[]) and read_at > now() - interval '1 hour' order by read_at desc, reader limit 1000`
const OFFERED_TO = `
  select count(*)::int as count, min(planned_at) as since
    from (select planned_at from deliveries
           where binding_id = any($1::bigint[]) and due_at is not null and state = 'offered' limit $2) counted`

/** Reads how far the readers of bindings are. @param limit most offered deliveries that are counted. */
export async function readFeedReaders(
  db: Database,
  { bindings, limit }: { bindings: readonly BindingId[]; limit: number },
): Promise<FeedReaders> {
  const ids = plainArray(bindings)
  const [{ rows: readers }, { rows: offered }] = await Promise.all([
    db.query<FeedReaders['readers'][number]>({ name: 'feed_readers', text: READERS_OF, values: [ids] }),
    db.query<FeedReaders['offered']>({ name: 'offered_to', text: OFFERED_TO, values: [ids, limit] }),
  ])
  return { readers, offered: offered[0] ?? { count: 0, since: null } }
}

const FIND_FEED_BINDINGS = `
  select b.id
    from relying_parties p
    join bindings b on b.relying_party_id = p.id and b.registered and b.names = 'any'
   where p.issuer = $1 and p.client_id = any($2::text[]) and p.deleted_at is null`

/** The bindings of resource servers by which these clients are told of every logout. */
export async function findFeedBindings(
  db: Database,
  { issuer, clientIds }: { issuer: IssuerName; clientIds: readonly string[] },
): Promise<readonly BindingId[]> {
  const { rows } = await db.query<{ id: BindingId }>({
    name: 'find_feed_bindings',
    text: FIND_FEED_BINDINGS,
    values: [issuer, clientIds],
  })
  return rows.map(({ id }) => id)
}
