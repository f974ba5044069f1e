import { type Database, type Queryable, withTransaction } from './database.ts'
import { tryLock } from './locks.ts'

// Tables partitioned by day or month. Partitions are created ahead of time, and dropped when they are too old.

/**
 * Longest wait of a partition change for its lock, in milliseconds. It blocks other statements meanwhile. A later round tries
 * again.
 */
const LOCK_TIMEOUT_MS = 2_000
const DAY_MS = 86_400_000

/** A table that is partitioned by time. The names are our own constants, because a name cannot be a parameter. */
interface Partitioned {
  readonly table: 'attempts' | 'audit' | 'receipts'
  /** The column that decides the partition of a row. */
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

/** SQLSTATE: the default partition already has rows of the new partition's period. */
const OVERLAPS = '23514'

/**
 * A period that starts sooner than this, in milliseconds, gets no partition. PostgreSQL refuses a row that is being written to
 * the default partition while the partition of its period is attached.
 */
const TOO_NEAR_MS = 3_600_000

/** A day or month with a partition of its own, in UTC. */
interface Period {
  readonly name: string
  readonly from: Date
  readonly to: Date
}

/**
 * Creates the missing partitions for the `days` days after `now` (UTC). A partition is created as a separate table and then
 * attached, which hardly locks the others. A period that has begun gets none: its rows go to the default partition.
 *
 * @returns the names of the created partitions.
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
      // Another bookkeeper may have created it before we took the lock.
      const found = await listPartitions(transaction, partitioned)
      if (found.some((partition) => partition.name === name && partition.attached)) return false
      // Names and bounds cannot be parameters. They consist of our own constants and digits.
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

export interface DropRequest {
  /** Rows older than this are deleted. */
  readonly before: Date
  /** Most rows deleted from the default partition at once. */
  readonly limit: number
}

export interface Dropped {
  /** Names of the dropped partitions. */
  readonly dropped: readonly string[]
  /** Whether more rows may be left to delete. */
  readonly more: boolean
}

/** Deletes attempts that started before `before`. */
export function dropAttempts(db: Database, request: DropRequest): Promise<Dropped> {
  return dropOld(db, ATTEMPTS, request)
}

/** Deletes receipts of events that were planned before `before`. Their entries in the receipt log stay. */
export function dropReceipts(db: Database, request: DropRequest): Promise<Dropped> {
  return dropOld(db, RECEIPTS, request)
}

/** Deletes the months of the audit trail that ended before `before`. Younger records stay. */
export function dropAudit(db: Database, request: DropRequest): Promise<Dropped> {
  return dropOld(db, AUDIT, request)
}

/** Drops the partitions that ended before `before`, and deletes older rows from the default partition. */
async function dropOld(
  db: Database,
  partitioned: Partitioned,
  { before, limit }: DropRequest,
): Promise<Dropped> {
  const { table, column } = partitioned
  const dropped: string[] = []
  for (const { name, attached } of await listPartitions(db, partitioned)) {
    // A table that is not attached is not ours, whatever its name: an operator may have made a copy.
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

/** The period that contains `time`. */
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

/** The end of a partition's period, read from its name. */
function endOf(name: string): Date {
  const [, year, month, day] = /_(\d{4})(\d{2})(\d{2})?$/.exec(name) ?? []
  return day === undefined
    ? new Date(Date.UTC(Number(year), Number(month), 1))
    : new Date(Date.UTC(Number(year), Number(month) - 1, Number(day) + 1))
}

function sqlState(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : null
}
