import type { DeliveryId, WorkerId } from '@curfew/domain'
import { plainArray } from '../postgres/arrays.ts'
import { type Database, type Queryable, withTransaction } from '../postgres/database.ts'

const REGISTER_WORKER = 'insert into workers (id, name) values ($1, $2) on conflict (id) do nothing'

/** Registers a worker as alive now. @param name where it runs, for people. */
export async function registerWorker(
  db: Database,
  { id, name }: { id: WorkerId; name: string },
): Promise<void> {
  await db.query({ name: 'register_worker', text: REGISTER_WORKER, values: [id, name] })
}

// Uses the database's clock, which all workers share.
const BEAT = `
  with me as (update workers set seen_at = now(), working = $2 where id = $1 returning id)
  select exists (select from me) as alive, count(*) as workers, count(*) filter (where id < $1) as rank,
         clock_timestamp() as now
    from workers
   where working or id = $1`

/** Membership of a worker among the live workers that may attempt deliveries. The worker itself always counts. */
export interface WorkerMembership {
  /** False if the worker was declared dead: it has lost its leases. */
  readonly alive: boolean
  readonly workers: number
  /** Its position among the workers, from 0. */
  readonly rank: number
}

/** The ledger's answer to a heartbeat. */
export interface Beat extends WorkerMembership {
  /** The ledger's clock, read while it answered. */
  readonly now: Date
}

/**
 * Records a heartbeat of a worker.
 *
 * @param working false: the worker may make no attempts, so the other workers share the limits without it. Default: true.
 */
export async function beat(
  db: Database,
  id: WorkerId,
  { working = true }: { readonly working?: boolean } = {},
): Promise<Beat> {
  const { rows } = await db.query<Beat>({ name: 'beat', text: BEAT, values: [id, working] })
  const [row] = rows
  if (row === undefined) throw new Error(`the heartbeat of worker ${id} returned no row`)
  return row
}

// Also deletes a worker that was seen in the future: PostgreSQL's clock was ahead then, and a dead worker would stay until that
// time. A live worker without a heartbeat since then registers again.
const BURY_SILENT = `
  delete from workers
   where seen_at <= now() - make_interval(secs => $1) or seen_at > now() + make_interval(secs => $1)`
const BURY_ONE = 'delete from workers where id = $1'

/**
 * SQL that gives back deliveries and counts them as `given_back`.
 *
 * A delivery belongs to a lease if worker and time agree: it may have been released and leased again since. The candidates are
 * looked up one by one, then updated by an array of their ids: the planner would scan the table for a join.
 *
 * @param from rows (worker_id, leased_at, delivery_id), each a delivery that its worker does not hold.
 * @param firstMessage the new value of the column.
 */
const giveBack = (from: string, firstMessage = 'first_message') => `
  candidates as (
    select d.id
      from ${from} unheld
      cross join lateral (
        select id, state, leased_by, leased_at from deliveries where id = unheld.delivery_id offset 0
      ) d
     where d.state = 'in_flight' and d.leased_by = unheld.worker_id and d.leased_at = unheld.leased_at
  ),
  given_back as (
    update deliveries set state = 'pending', due_at = now(), first_message = ${firstMessage}
     where id = any (array(select id from candidates)) and state = 'in_flight'
    returning id
  )`

// Gives back every lease of a worker that does not exist. The age of a lease does not matter. No lease goes to such a worker,
// because the statements that lease lock the worker's row. Erases first messages, unless the worker ended by itself ($1): the RP may
// have got such a message already, and would refuse it the second time.
const RECLAIM = `
  with ended as (
    delete from leases l
     where not exists (select from workers w where w.id = l.worker_id)
    returning l.worker_id, l.leased_at, l.delivery_ids
  ),
  ${giveBack(
    '(select worker_id, leased_at, unnest(delivery_ids) as delivery_id from ended)',
    'case when leased_by = $1::uuid then first_message end',
  )}
  select count(*) as deliveries from given_back`

/**
 * Declares dead every worker that has been silent for `leaseMs`, or was seen that far in the future. Then gives back all
 * deliveries leased to workers that do not exist. They are due at once, and their last attempt is not counted: whether it reached
 * the RP is unknown.
 *
 * @returns the number of deliveries given back.
 */
export async function reclaimLeases(db: Database, { leaseMs }: { leaseMs: number }): Promise<number> {
  await db.query({ name: 'bury_silent', text: BURY_SILENT, values: [leaseMs / 1_000] })
  return reclaim(db, null)
}

/**
 * Deletes a worker that stops, and gives back the deliveries that it holds.
 *
 * @param abandoned true if attempts were running: their first messages are erased. Default false.
 * @returns the number of deliveries given back.
 */
export async function retireWorker(
  db: Database,
  id: WorkerId,
  { abandoned = false }: { readonly abandoned?: boolean } = {},
): Promise<number> {
  // In one transaction: another worker that reclaims in between would erase the first messages.
  return withTransaction(db, async (transaction) => {
    await transaction.query({ name: 'bury_one', text: BURY_ONE, values: [id] })
    return reclaim(transaction, abandoned ? null : id)
  })
}

async function reclaim(db: Queryable, retired: WorkerId | null): Promise<number> {
  const { rows } = await db.query<{ deliveries: number }>({
    name: 'reclaim',
    text: RECLAIM,
    values: [retired],
  })
  return rows[0]?.deliveries ?? 0
}

// Deletes the leases that the worker knows to have ended, without a lookup of their deliveries. A lease with deliveries that are
// still held stays, with these alone: an ended delivery is looked up once.
const RELEASE_UNHELD = `
  with finished as (
    delete from leases l
     using unnest($5::bigint[], $6::int[]) as f(number, deliveries)
     where l.worker_id = $1 and l.number = f.number and cardinality(l.delivery_ids) = f.deliveries
  ),
  listed as materialized (
    select l.worker_id, l.number, l.leased_at, listed.delivery_id, held.id is not null as held
      from leases l
      cross join lateral unnest(l.delivery_ids) as listed(delivery_id)
      left join unnest($3::uuid[]) as held(id) on held.id = listed.delivery_id
     where l.worker_id = $1 and l.number <= $4
       and not exists (select from unnest($2::bigint[] || $5::bigint[]) as a(number) where a.number = l.number)
  ),
  kept as (
    select number, array_agg(delivery_id) as delivery_ids from listed where held group by number
  ),
  shortened as (
    update leases l set delivery_ids = kept.delivery_ids
      from kept
     where l.worker_id = $1 and l.number = kept.number
       and cardinality(l.delivery_ids) <> cardinality(kept.delivery_ids)
  ),
  ended as (
    delete from leases
     where worker_id = $1 and number = any (array(select number from listed))
       and not exists (select from kept where kept.number = leases.number)
  ),
  ${giveBack('(select worker_id, leased_at, delivery_id from listed where not held)')}
  select count(*) as deliveries from given_back`

/** The leases of a worker, as the worker knows them. */
export interface HeldLeases {
  readonly workerId: WorkerId
  /** Numbers of the leases that the worker has requested without an answer yet, or holds whole. They are left alone. */
  readonly asking: readonly number[]
  /** Deliveries that the worker held under other leases before the call. */
  readonly held: readonly DeliveryId[]
  /**
   * Leases whose deliveries are all settled or given back, as the worker knows. If the ledger counts a different number of
   * deliveries for a lease, the lease stays. The next call that does not list it checks its deliveries. Default: none.
   */
  readonly ended?: readonly { readonly number: number; readonly deliveries: number }[]
  /**
   * The highest number of a lease that the worker had requested before the call. Later leases are left alone: they may be given
   * while this statement waits for a connection.
   */
  readonly upTo: number
}

/**
 * Gives back deliveries that are leased to a live worker without its knowledge, and deletes leases that have ended. A worker does
 * not know of a lease if the answer of the statement was lost.
 *
 * @returns the number of deliveries given back.
 */
export async function releaseUnheld(
  db: Database,
  { workerId, asking, held, ended = [], upTo }: HeldLeases,
): Promise<number> {
  const { rows } = await db.query<{ deliveries: number }>({
    name: 'release_unheld',
    text: RELEASE_UNHELD,
    values: [
      workerId,
      plainArray(asking),
      plainArray(held),
      upTo,
      plainArray(ended.map(({ number }) => number)),
      plainArray(ended.map(({ deliveries }) => deliveries)),
    ],
  })
  return rows[0]?.deliveries ?? 0
}

/** Reads the ledger's clock. */
export async function readClock(db: Database): Promise<Date> {
  const { rows } = await db.query<{ now: Date }>('select clock_timestamp() as now')
  const [row] = rows
  if (row === undefined) throw new Error('reading the clock of the ledger returned no row')
  return row.now
}

const OLDEST_LEASE =
  'select coalesce(extract(epoch from now() - min(leased_at)), 0)::float8 as age from leases'

/** The age of the oldest lease, in seconds; 0 if there is none. */
export async function oldestLeaseSeconds(db: Database): Promise<number> {
  const { rows } = await db.query<{ age: number }>({ name: 'oldest_lease', text: OLDEST_LEASE })
  return Math.max(0, rows[0]?.age ?? 0)
}
