import { type Database, type Queryable, withTransaction } from '../postgres/database.ts'
import { microsOf } from '../postgres/times.ts'
import { eventRanges } from './event-ranges.ts'

/** Position of a sweep over the events: microseconds since 1970, because a Date is less precise than PostgreSQL, and the id. */
export interface SweepPosition {
  readonly micros: number
  readonly id: string
}

export interface Sweep {
  /** Number of deleted events. */
  readonly events: number
  /** Number of deleted deliveries. */
  readonly deliveries: number
  /** Where the next sweep begins; null if no older event is left. */
  readonly next: SweepPosition | null
}

const OLD_EVENTS = `
  select id, ${microsOf('planned_at')} as micros from events
   where planned_at < $1
     and (planned_at, id) > (timestamptz 'epoch' + $2::bigint * interval '1 microsecond', $3::uuid)
   order by planned_at, id limit $4`

/** The position before the first event. */
const BEGINNING: SweepPosition = { micros: 0, id: '00000000-0000-0000-0000-000000000000' }

// Locks the events: a session that is posted late may owe deliveries for an event that has long been settled. A separate
// statement, so that the next one sees the deliveries that were owed until then.
const LOCK_EVENTS = 'select id from events where id = any($1::uuid[]) order by id for update'

// Locks the dead letters: they are the only settled deliveries that can change again, by a replay. A replay and this transaction
// wait for each other.
const LOCK_DEAD_LETTERS = `
  select d.id
    from unnest($1::uuid[], $2::uuid[], $3::uuid[]) as given(id, low, high)
    join deliveries d on d.id between given.low and given.high and d.event_id = given.id
   where d.dead_lettered_at is not null
   order by d.dead_lettered_at, d.id
     for update of d`

/**
 * Locks events until the transaction ends: they owe no further deliveries, and their dead letters cannot be replayed.
 *
 * @param given the ids of the events, and the ranges of their deliveries' ids: see `eventRanges`.
 */
export async function lockHistory(
  transaction: Queryable,
  given: readonly [string, string, string],
): Promise<void> {
  await transaction.query({ name: 'lock_events', text: LOCK_EVENTS, values: [given[0]] })
  await transaction.query({ name: 'lock_dead_letters', text: LOCK_DEAD_LETTERS, values: given })
}

// Deletes an event with all its deliveries, or not at all: its count "acknowledged of total" stays true.
const DELETE_EVENTS = `
  with given as (select * from unnest($1::uuid[], $2::uuid[], $3::uuid[]) as given(id, low, high)),
  gone as (
    delete from events e using given
     where e.id = given.id
       and not exists (
         select from deliveries d
          where d.id between given.low and given.high and d.event_id = given.id
            and (d.settled_at is null or d.settled_at >= $4 or d.state = 'dead_lettered' and d.settled_at >= $5))
       and not exists (select from issuer_logouts l where l.event_id = given.id and l.state = 'running')
       and not exists (select from confirmations c where c.event_id = given.id and c.state = 'pending')
    returning given.id, given.low, given.high
  ),
  jobs as (delete from issuer_logouts l using gone where l.event_id = gone.id),
  confirmed as (delete from confirmations c using gone where c.event_id = gone.id),
  counted as (delete from sla_logouts l using gone where l.event_id = gone.id),
  deleted as (
    delete from deliveries d using gone
     where d.id between gone.low and gone.high and d.event_id = gone.id
    returning d.id
  )
  select (select count(*) from gone) as events, (select count(*) from deleted) as deliveries`

/**
 * Deletes one batch of events at the end of their retention, with their deliveries and confirmations. An event qualifies if it was
 * planned before `before`, all its deliveries were settled before then, and its confirmation is not pending. Its dead letters must
 * have been settled before `deadBefore`.
 *
 * @param after the end of the batch before; null for the first batch.
 * @param limit most events that are read.
 */
export async function sweepHistory(
  db: Database,
  {
    before,
    deadBefore,
    after,
    limit,
  }: { before: Date; deadBefore: Date; after: SweepPosition | null; limit: number },
): Promise<Sweep> {
  const from = after ?? BEGINNING
  return withTransaction(db, async (transaction) => {
    const { rows: old } = await transaction.query<SweepPosition>({
      name: 'old_events',
      text: OLD_EVENTS,
      values: [before, from.micros, from.id, limit],
    })
    const given = eventRanges(old.map(({ id }) => id))
    await lockHistory(transaction, given)
    const { rows } = await transaction.query<{ events: number; deliveries: number }>({
      name: 'delete_events',
      text: DELETE_EVENTS,
      values: [...given, before, deadBefore],
    })
    const { events = 0, deliveries = 0 } = rows[0] ?? {}
    return { events, deliveries, next: old.length < limit ? null : (old.at(-1) ?? null) }
  })
}

/** One batch of rows that are too old. */
export interface DeleteRequest {
  readonly before: Date
  /** Most rows. */
  readonly limit: number
}

const DELETE_REPLAYS = `
  delete from replays where id = any(array(
    select id from replays where ended_at < $1 order by ended_at limit $2))`

/** Deletes replays that ended before a time. The deliveries that they put back keep their ids. @returns the number deleted. */
export function deleteReplays(db: Database, request: DeleteRequest): Promise<number> {
  return deleteBatch(db, { name: 'delete_replays', text: DELETE_REPLAYS }, request)
}

const DELETE_PROBES = `
  delete from probes where id = any(array(
    select id from probes where ended_at < $1 order by ended_at limit $2))`

/** Deletes probes that ended before a time. @returns the number deleted. */
export function deleteProbes(db: Database, request: DeleteRequest): Promise<number> {
  return deleteBatch(db, { name: 'delete_probes', text: DELETE_PROBES }, request)
}

// A quarantined logout waits for a person and is never too old. A session expires, and its record is of no use after that.
const DELETE_QUARANTINED = `
  delete from quarantined_records where id = any(array(
    (select id from quarantined_records
      where state in ('requeued', 'dismissed') and decided_at < $1 order by decided_at limit $2)
    union all
    (select id from quarantined_records
      where lane = 'sessions' and state = 'waiting' and quarantined_at < $1 and noticed_at is not null
      order by quarantined_at limit $2)
    limit $2))`

/**
 * Deletes records that were requeued or dismissed before a time. Also deletes records of sessions that have waited since before
 * it, if operators were notified of them.
 *
 * @returns the number deleted.
 */
export function deleteQuarantined(db: Database, request: DeleteRequest): Promise<number> {
  return deleteBatch(db, { name: 'delete_quarantined', text: DELETE_QUARANTINED }, request)
}

async function deleteBatch(
  db: Database,
  statement: { readonly name: string; readonly text: string },
  { before, limit }: DeleteRequest,
): Promise<number> {
  const { rowCount } = await db.query({ ...statement, values: [before, limit] })
  return rowCount ?? 0
}
