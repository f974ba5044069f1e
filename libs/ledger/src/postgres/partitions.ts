import { type Database, type Queryable, withTransaction } from './database.ts'
import { tryLock } from './locks.ts'

// History by the day or month: partitions are made ahead, and dropped when they are too old.

/** Longest that a change of partitions may stand in the way of others, in milliseconds; it is tried again later. */
const LOCK_TIMEOUT_MS = 2_000
const DAY_MS = 86_400_000

/** A table that is partitioned by time. Its names are of our own making, and no parameters. */
interface Partitioned {
  readonly table: 'attempts' | 'audit' | 'receipts'
  /** What says to which partition a row belongs. */
  readonly column: string
  readonly period: 'day' | 'month'
}

const ATTEMPTS: Partitioned = { table: 'attempts', column: 'started_at', period: 'day' }
const AUDIT: Partitioned = { table: 'audit', column: 'at', period: 'month' }
const RECEIPTS: Partitioned = { table: 'receipts', column: 'planned_at', period: 'month' }
const PARTITIONED: readonly Partitioned[] = [ATTEMPTS, AUDIT, RECEIPTS]

const LIST_PARTITIONS = `
  select c.relname as name, i.inhrelid is not null as attached
    from pg_class c
    left join pg_inherits i on i.inhrelid = c.oid and i.inhparent = $1::regclass
   where c.relnamespace = (select relnamespace from pg_class where oid = $1::regclass)
     and c.relkind = 'r' and c.relname ~ ('^' || $1 || '_([0-9]{6}|[0-9]{8})$')
   order by c.relname`

interface PartitionRow {
  readonly name: string
  readonly attached: boolean
}

/** Some rows of that day are in the default partition already. */
const OVERLAPS = '23514'

/**
 * A period gets no partition once it is as near as this, in milliseconds. A row that is on its way into the default
 * partition when that of its own period is attached is refused by PostgreSQL, for it would lie in the wrong one.
 */
const TOO_NEAR_MS = 3_600_000

/** A span of time that has a partition of its own, in UTC. */
interface Period {
  readonly name: string
  readonly from: Date
  readonly to: Date
}

/**
 * Makes the partitions for the `days` after that of `now` (UTC), as far as they are missing. One is made apart and then
 * attached, which hardly locks the others. A period that has begun gets none: its rows go to the default partition.
 *
 * @returns the names of those that were made.
 */
export async function createPartitions(
  db: Database,
  { now, days }: { now: Date; days: number },
): Promise<readonly string[]> {
  const made: string[] = []
  for (const partitioned of PARTITIONED) {
    const existing = new Map(
      (await listPartitions(db, partitioned)).map(({ name, attached }) => [name, attached]),
    )
    for (let ahead = 1; ahead <= days; ahead++) {
      const period = periodOf(partitioned, new Date(now.getTime() + ahead * DAY_MS))
      if (period.from.getTime() - now.getTime() < TOO_NEAR_MS || made.includes(period.name)) continue
      if (existing.get(period.name) !== true && (await createPartition(db, partitioned, period)))
        made.push(period.name)
    }
  }
  return made
}

async function createPartition(
  db: Database,
  partitioned: Partitioned,
  { name, from, to }: Period,
): Promise<boolean> {
  const { table } = partitioned
  try {
    return await withTransaction(db, async (transaction) => {
      if (!(await tryLock(transaction, 'partitions'))) return false
      // Another bookkeeper may have made it between our look and our lock.
      const found = await listPartitions(transaction, partitioned)
      if (found.some((partition) => partition.name === name && partition.attached)) return false
      // Names and bounds are made of what is ours and digits only; neither can be a parameter.
      await transaction.query(
        `create table if not exists ${name} (like ${table} including defaults including constraints including indexes)`,
      )
      await transaction.query(`set local lock_timeout = ${LOCK_TIMEOUT_MS}`)
      await transaction.query(
        `alter table ${table} attach partition ${name} for values from ('${from.toISOString()}') to ('${to.toISOString()}')`,
      )
      return true
    })
  } catch (error) {
    if (sqlState(error) === OVERLAPS) return false
    throw error
  }
}

/** What is too old to be kept. */
export interface DropRequest {
  readonly before: Date
  /** Most rows deleted from the default partition at once. */
  readonly limit: number
}

export interface Dropped {
  /** Names of partitions. */
  readonly dropped: readonly string[]
  /** Whether there may be more to delete. */
  readonly more: boolean
}

/** Forgets attempts that were made before. */
export function dropAttempts(db: Database, request: DropRequest): Promise<Dropped> {
  return dropOld(db, ATTEMPTS, request)
}

/** Forgets receipts of events that were planned before. What the log has of them stays. */
export function dropReceipts(db: Database, request: DropRequest): Promise<Dropped> {
  return dropOld(db, RECEIPTS, request)
}

/** Forgets what was done before. Only whole months go; nothing that is younger is ever touched. */
export function dropAudit(db: Database, request: DropRequest): Promise<Dropped> {
  return dropOld(db, AUDIT, request)
}

/** Drops the partitions that ended before, and deletes what is older where a partition was not made in time. */
async function dropOld(
  db: Database,
  partitioned: Partitioned,
  { before, limit }: DropRequest,
): Promise<Dropped> {
  const { table, column } = partitioned
  const dropped: string[] = []
  for (const { name, attached } of await listPartitions(db, partitioned)) {
    // What is no partition is not ours, whatever its name: a copy that somebody has made.
    if (!attached || endOf(name) > before) continue
    await withTransaction(db, async (transaction) => {
      await transaction.query(`set local lock_timeout = ${LOCK_TIMEOUT_MS}`)
      await transaction.query(`drop table if exists ${name}`)
    })
    dropped.push(name)
  }
  const { rowCount } = await db.query({
    name: `delete_old_${table}`,
    text: `delete from ${table}_default where ctid = any(array(
             select ctid from ${table}_default where ${column} < $1 limit $2))`,
    values: [before, limit],
  })
  return { dropped, more: rowCount === limit }
}

async function listPartitions(db: Queryable, { table }: Partitioned): Promise<readonly PartitionRow[]> {
  const { rows } = await db.query<PartitionRow>({
    name: 'list_partitions',
    text: LIST_PARTITIONS,
    values: [table],
  })
  return rows
}

/** The period that `time` lies in. */
function periodOf({ table, period }: Partitioned, time: Date): Period {
  const [year, month, day] = [time.getUTCFullYear(), time.getUTCMonth(), time.getUTCDate()]
  const ofDay = period === 'day'
  const from = new Date(Date.UTC(year, month, ofDay ? day : 1))
  const digits = from
    .toISOString()
    .slice(0, ofDay ? 10 : 7)
    .replaceAll('-', '')
  const name = `${table}_${digits}`
  return { name, from, to: endOf(name) }
}

/** When the period of a partition ends, by its name. */
function endOf(name: string): Date {
  const [, year, month, day] = /_(\d{4})(\d{2})(\d{2})?$/.exec(name) ?? []
  return day === undefined
    ? new Date(Date.UTC(Number(year), Number(month), 1))
    : new Date(Date.UTC(Number(year), Number(month) - 1, Number(day) + 1))
}

function sqlState(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : null
}
