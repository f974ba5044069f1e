import { type Database, withTransaction } from './database.ts'
import { tryLock } from './locks.ts'

// Attempts by the day: partitions are made ahead, and dropped when they are too old.

/** Longest that a change of partitions may stand in the way of others, in milliseconds; it is tried again later. */
const LOCK_TIMEOUT_MS = 2_000
const DAY_MS = 86_400_000
const PARTITION = /^attempts_(\d{4})(\d{2})(\d{2})$/

const LIST_PARTITIONS = `
  select c.relname as name, i.inhrelid is not null as attached
    from pg_class c
    left join pg_inherits i on i.inhrelid = c.oid and i.inhparent = 'attempts'::regclass
   where c.relnamespace = (select relnamespace from pg_class where oid = 'attempts'::regclass)
     and c.relkind = 'r' and c.relname ~ '^attempts_[0-9]{8}$'`

interface PartitionRow {
  readonly name: string
  readonly attached: boolean
}

/** Some rows of that day are in the default partition already. */
const OVERLAPS = '23514'

/**
 * A day gets no partition once it is as near as this, in milliseconds. An attempt that is on its way into the default
 * partition when that of its own day is attached is refused by PostgreSQL, for it would lie in the wrong one.
 */
const TOO_NEAR_MS = 3_600_000

/**
 * Makes the partitions of `attempts` for the `days` after that of `now` (UTC), as far as they are missing. One is made apart
 * and then attached, which hardly locks the others. A day that has begun gets none: its attempts go to the default partition.
 *
 * @returns the names of those that were made.
 */
export async function createPartitions(
  db: Database,
  { now, days }: { now: Date; days: number },
): Promise<readonly string[]> {
  const existing = new Map((await listPartitions(db)).map(({ name, attached }) => [name, attached]))
  const made: string[] = []
  for (let ahead = 1; ahead <= days; ahead++) {
    const day = startOfDay(new Date(now.getTime() + ahead * DAY_MS))
    const name = partitionName(day)
    if (day.getTime() - now.getTime() < TOO_NEAR_MS) continue
    if (existing.get(name) !== true && (await createPartition(db, { name, day }))) made.push(name)
  }
  return made
}

async function createPartition(db: Database, { name, day }: { name: string; day: Date }): Promise<boolean> {
  const [from, to] = [day, new Date(day.getTime() + DAY_MS)].map((time) => time.toISOString())
  try {
    return await withTransaction(db, async (transaction) => {
      if (!(await tryLock(transaction, 'partitions'))) return false
      // Another bookkeeper may have made it between our look and our lock.
      const { rows: found } = await transaction.query<PartitionRow>({
        name: 'list_partitions',
        text: LIST_PARTITIONS,
      })
      if (found.some((partition) => partition.name === name && partition.attached)) return false
      // Names and bounds are made of digits only; neither can be a parameter.
      await transaction.query(
        `create table if not exists ${name} (like attempts including defaults including constraints including indexes)`,
      )
      await transaction.query(`set local lock_timeout = ${LOCK_TIMEOUT_MS}`)
      await transaction.query(
        `alter table attempts attach partition ${name} for values from ('${from}') to ('${to}')`,
      )
      return true
    })
  } catch (error) {
    if (sqlState(error) === OVERLAPS) return false
    throw error
  }
}

/**
 * Drops the partitions of `attempts` whose day ended before `before`, and deletes what is older from the default
 * partition, where a partition was not made in time.
 *
 * @param limit most rows deleted from the default partition at once.
 * @returns the names of the partitions, and whether there may be more to delete.
 */
export async function dropAttempts(
  db: Database,
  { before, limit }: { before: Date; limit: number },
): Promise<{ readonly dropped: readonly string[]; readonly more: boolean }> {
  const dropped: string[] = []
  for (const { name } of await listPartitions(db)) {
    if (dayOf(name).getTime() + DAY_MS > before.getTime()) continue
    await withTransaction(db, async (transaction) => {
      await transaction.query(`set local lock_timeout = ${LOCK_TIMEOUT_MS}`)
      await transaction.query(`drop table if exists ${name}`)
    })
    dropped.push(name)
  }
  const { rowCount } = await db.query({
    name: 'delete_attempts',
    text: DELETE_ATTEMPTS,
    values: [before, limit],
  })
  return { dropped, more: rowCount === limit }
}

const DELETE_ATTEMPTS = `
  delete from attempts_default where ctid = any(array(
    select ctid from attempts_default where started_at < $1 limit $2))`

async function listPartitions(db: Database): Promise<readonly PartitionRow[]> {
  const { rows } = await db.query<PartitionRow>({ name: 'list_partitions', text: LIST_PARTITIONS })
  return rows.filter(({ name }) => PARTITION.test(name))
}

function partitionName(day: Date): string {
  return `attempts_${day.toISOString().slice(0, 10).replaceAll('-', '')}`
}

function dayOf(name: string): Date {
  return new Date(name.replace(PARTITION, '$1-$2-$3T00:00:00.000Z'))
}

function startOfDay(time: Date): Date {
  return new Date(Math.floor(time.getTime() / DAY_MS) * DAY_MS)
}

function sqlState(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : null
}
