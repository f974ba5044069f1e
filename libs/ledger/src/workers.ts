import type { DeliveryId, WorkerId } from '@curfew/domain'
import { plainArray } from './arrays.ts'
import { type Database, withTransaction } from './database.ts'

const REGISTER_WORKER = 'insert into workers (id, name) values ($1, $2) on conflict (id) do nothing'

/** Makes a worker known, alive as of now. @param name where it runs, for people. */
export async function registerWorker(
  db: Database,
  { id, name }: { id: WorkerId; name: string },
): Promise<void> {
  await db.query({ name: 'register_worker', text: REGISTER_WORKER, values: [id, name] })
}

// The database's clock, not the worker's: it is the one that all workers share.
const BEAT = `
  with me as (update workers set seen_at = now() where id = $1 returning id)
  select exists (select from me) as alive, count(*) as workers, count(*) filter (where id < $1) as rank from workers`

/** A worker among the others that live. */
export interface Standing {
  /** False when it was declared dead: its leases are gone. */
  readonly alive: boolean
  readonly workers: number
  /** Its place among them, from 0. */
  readonly rank: number
}

/** Says that a worker is alive. */
export async function beat(db: Database, id: WorkerId): Promise<Standing> {
  const { rows } = await db.query<Standing>({ name: 'beat', text: BEAT, values: [id] })
  return rows[0] ?? { alive: false, workers: 0, rank: 0 }
}

const BURY_SILENT =
  'delete from workers where seen_at <= now() - make_interval(secs => $1) returning id, seen_at'
const BURY_ONE = 'delete from workers where id = $1 returning id, seen_at'

// Whoever is buried has held nothing for longer than a lease may be held, so only what was leased lately is searched;
// the index on leased_at finds it without reading history.
const RECLAIM = `
  update deliveries set state = 'pending', due_at = now()
   where leased_at > $2::timestamptz - interval '15 minutes' and leased_by = any($1::uuid[]) and state = 'in_flight'`

interface Buried {
  readonly id: WorkerId
  readonly seen_at: Date
}

/**
 * Declares dead every worker that has been silent for `leaseMs`, and gives back what they held: it is due at once and
 * has cost no attempt (whether the last one reached the RP, nobody knows).
 *
 * Two statements, for the second must see what a worker leased until the moment it was deleted.
 *
 * @returns how many deliveries were given back.
 */
export async function reclaimLeases(db: Database, { leaseMs }: { leaseMs: number }): Promise<number> {
  return bury(db, BURY_SILENT, leaseMs / 1_000)
}

const RELEASE_UNHELD = `
  update deliveries set state = 'pending', due_at = now()
   where leased_at > now() - interval '15 minutes' and leased_at <= now() - make_interval(secs => $3)
     and leased_by = $1 and state = 'in_flight' and id <> all($2::uuid[])`

/**
 * Gives back what is leased to a living worker without its knowing: the statement that leased it was carried out, and
 * the answer was lost.
 *
 * @param held what the worker knows that it holds.
 * @param olderThanMs leases younger than this are left alone: their answer may be on its way.
 * @returns how many deliveries were given back.
 */
export async function releaseUnheld(
  db: Database,
  { workerId, held, olderThanMs }: { workerId: WorkerId; held: readonly DeliveryId[]; olderThanMs: number },
): Promise<number> {
  const { rowCount } = await db.query({
    name: 'release_unheld',
    text: RELEASE_UNHELD,
    values: [workerId, plainArray(held), olderThanMs / 1_000],
  })
  return rowCount ?? 0
}

/** Takes leave: what the worker still holds is given back. */
export async function retireWorker(db: Database, id: WorkerId): Promise<number> {
  return bury(db, BURY_ONE, id)
}

async function bury(db: Database, text: string, value: unknown): Promise<number> {
  return withTransaction(db, async (transaction) => {
    const { rows } = await transaction.query<Buried>({ text, values: [value] })
    if (rows.length === 0) return 0
    const earliest = new Date(Math.min(...rows.map(({ seen_at }) => seen_at.getTime())))
    const { rowCount } = await transaction.query({
      name: 'reclaim',
      text: RECLAIM,
      values: [rows.map(({ id }) => id), earliest],
    })
    return rowCount ?? 0
  })
}
