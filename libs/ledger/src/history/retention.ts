import { type Database, type Queryable, withTransaction } from '../postgres/database.ts'
import { microsOf } from '../postgres/times.ts'
import { eventRanges } from './event-ranges.ts'

/** Where a sweep over the events has got to: microseconds of the epoch, for a Date has not all that PostgreSQL keeps, and the id. */
export interface SweepPosition {
  readonly micros: number
  readonly id: string
}

export interface Sweep {
  /** How many were deleted. */
  readonly events: number
  readonly deliveries: number
  /** Where to go on; null when nothing older is left. */
  readonly next: SweepPosition | null
}

const OLD_EVENTS = `
  select id, ${microsOf('planned_at')} as micros from events
   where planned_at < $1
     and (planned_at, id) > (timestamptz 'epoch' + $2::bigint * interval '1 microsecond', $3::uuid)
   order by planned_at, id limit $4`

/** Before all that there is. */
const BEGINNING: SweepPosition = { micros: 0, id: '00000000-0000-0000-0000-000000000000' }

// A session that is posted late may be owed what is long settled. Statements of their own, so that the next one sees what was owed
// until then.
const LOCK_EVENTS = 'select id from events where id = any($1::uuid[]) order by id for update'

// Of what is settled, only a dead letter can ever change again, by a replay: that waits until this is over, or this for it.
const LOCK_DEAD_LETTERS = `
  select d.id
    from unnest($1::uuid[], $2::uuid[], $3::uuid[]) as given(id, low, high)
    join deliveries d on d.id between given.low and given.high and d.event_id = given.id
   where d.dead_lettered_at is not null
   order by d.dead_lettered_at, d.id
     for update of d`

/**
 * Keeps events from owing anything more, and their dead letters from being replayed, until the transaction ends.
 *
 * @param given their ids, and the ranges of their deliveries'.
 */
export async function lockHistory(
  transaction: Queryable,
  given: readonly [string, string, string],
): Promise<void> {
  await transaction.query({ name: 'lock_events', text: LOCK_EVENTS, values: [given[0]] })
  await transaction.query({ name: 'lock_dead_letters', text: LOCK_DEAD_LETTERS, values: given })
}

// An event goes with all its deliveries or stays with all of them: what it says of "acknowledged of total" stays true.
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
    returning given.id, given.low, given.high
  ),
  jobs as (delete from issuer_logouts l using gone where l.event_id = gone.id),
  counted as (delete from sla_logouts l using gone where l.event_id = gone.id),
  deleted as (
    delete from deliveries d using gone
     where d.id between gone.low and gone.high and d.event_id = gone.id
    returning d.id
  )
  select (select count(*) from gone) as events, (select count(*) from deleted) as deliveries`

/**
 * Deletes what is over and older than it is kept for, one batch: events planned before `before`, all of whose deliveries
 * were settled before then, and with them these deliveries. Where one is a dead letter, not before `deadBefore`.
 *
 * @param after where the batch before ended; null begins.
 * @param limit most events that are looked at.
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

/** One batch of what is too old. */
export interface DeleteRequest {
  readonly before: Date
  /** Most rows. */
  readonly limit: number
}

const DELETE_REPLAYS = `
  delete from replays where id = any(array(
    select id from replays where ended_at < $1 order by ended_at limit $2))`

/** Forgets replays that ended before. What they put back has their ids still. @returns how many. */
export function deleteReplays(db: Database, request: DeleteRequest): Promise<number> {
  return deleteBatch(db, { name: 'delete_replays', text: DELETE_REPLAYS }, request)
}

const DELETE_PROBES = `
  delete from probes where id = any(array(
    select id from probes where ended_at < $1 order by ended_at limit $2))`

/** Forgets probes that ended before. @returns how many. */
export function deleteProbes(db: Database, request: DeleteRequest): Promise<number> {
  return deleteBatch(db, { name: 'delete_probes', text: DELETE_PROBES }, request)
}

// A logout that waits for a person is never too old. A session ends by itself, and its record is of use no longer than that.
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
 * Forgets records that were requeued or dismissed before, and records of sessions that operators were notified of and that have waited
 * since before. @returns how many.
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
