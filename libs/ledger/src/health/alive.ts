import type { Database } from '../postgres/database.ts'

/** A process counts as dead after this time without a heartbeat, in seconds. Workers and bookkeepers send one every 5 s at least. */
const SILENT_S = 30

// A time in the future counts as silence, too: PostgreSQL's clock was ahead when it was written.
const isSilent = `abs(extract(epoch from now() - seen_at)) > ${SILENT_S}`

// Skips locked rows, so that two bookkeepers that delete the same rows do not wait for each other.
const BEAT_BOOKKEEPER = `
  with gone as (
    delete from bookkeepers
     where id in (select id from bookkeepers where id <> $1 and ${isSilent} for update skip locked)
  )
  insert into bookkeepers (id, name) values ($1, $2) on conflict (id) do update set seen_at = now()`

/** Records a heartbeat of a bookkeeper, and deletes bookkeepers that send none. @param name where it runs, for people. */
export async function beatBookkeeper(
  db: Database,
  { id, name }: { readonly id: string; readonly name: string },
): Promise<void> {
  await db.query({ name: 'beat_bookkeeper', text: BEAT_BOOKKEEPER, values: [id, name] })
}

/** Deletes a bookkeeper that stops. */
export async function retireBookkeeper(db: Database, id: string): Promise<void> {
  await db.query('delete from bookkeepers where id = $1', [id])
}

/** The numbers of live processes, by their heartbeats of the last 30 s. */
export interface Alive {
  readonly workers: number
  readonly bookkeepers: number
}

const COUNT_ALIVE = `
  select (select count(*) from workers where not (${isSilent})) as workers,
         (select count(*) from bookkeepers where not (${isSilent})) as bookkeepers`

/** Counts the delivery workers and the bookkeepers that are alive. */
export async function countAlive(db: Database): Promise<Alive> {
  const { rows } = await db.query<Alive>({ name: 'count_alive', text: COUNT_ALIVE })
  const [row] = rows
  if (row === undefined) throw new Error('the count of live workers and bookkeepers returned no row')
  return row
}
