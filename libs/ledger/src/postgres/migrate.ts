import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { CurfewError, LedgerSchemaError } from '@curfew/domain'
import { type Database, type Queryable, withTransaction } from './database.ts'

/** The migrations of this release. */
const MIGRATIONS_FOLDER: string = fileURLToPath(new URL('../../../../migrations/', import.meta.url))

export interface MigrateOptions {
  /** Folder of the numbered files. Default: that of this release. */
  readonly folder?: string
}

/** The database and the migration files contradict each other. The message names the file and says what to do. */
export class MigrationError extends CurfewError {
  override readonly code = 'ERR_MIGRATION'
}

/** The server is older than PostgreSQL 16. */
export class PostgresTooOldError extends CurfewError {
  override readonly code = 'ERR_POSTGRES_TOO_OLD'
}

/** A newer release migrated the database. This release must not change the schema. */
export class SchemaTooNewError extends CurfewError {
  override readonly code = 'ERR_SCHEMA_TOO_NEW'
}

interface Migration {
  readonly number: number
  /** File name, such as `0001_event_log.sql`. */
  readonly name: string
  /** SHA-256 of the file, hexadecimal. */
  readonly checksum: string
  readonly sql: string
}

type Applied = Omit<Migration, 'sql'>

/** The advisory lock of the migrator: only one works at a time. Nothing else locks this number. */
const MIGRATION_LOCK = 4_872_364_191
const DAY_MS = 86_400_000

const LOCK = 'select pg_advisory_xact_lock($1)'

const CREATE_TABLE = `
  create table if not exists migrations (
    number      integer primary key,
    name        text not null,
    checksum    text not null,
    applied_at  timestamptz not null default now()
  )`
const HAS_TABLE = `select to_regclass('migrations') is not null as found`
const READ_VERSION = `select current_setting('server_version_num')::int as number, current_setting('server_version') as text`
const VERSION_MIN = 16
const READ_APPLIED = 'select number, name, checksum from migrations order by number'
const INSERT_APPLIED = 'insert into migrations (number, name, checksum) values ($1, $2, $3)'

/**
 * Applies the pending migrations. Each migration runs in one transaction, which also records it. If several migrators run, one
 * works; the others wait and then find nothing to do.
 *
 * @returns the names of the files that this call applied.
 * @throws {MigrationError} when a file is misnamed or missing, fails, or was changed after it was applied.
 * @throws {SchemaTooNewError} when the database has a migration that this release does not know.
 * @throws {PostgresTooOldError} when the server is older than PostgreSQL 16.
 */
export async function migrate(
  db: Database,
  { folder = MIGRATIONS_FOLDER }: MigrateOptions = {},
): Promise<string[]> {
  await checkServerVersion(db)
  const migrations = await readMigrations(folder)
  const names: string[] = []
  for (;;) {
    const name = await withTransaction(db, (transaction) => applyNext(transaction, migrations))
    if (name === null) return names
    names.push(name)
  }
}

/** @throws {PostgresTooOldError} when the server is older than PostgreSQL 16. */
export async function checkServerVersion(db: Queryable): Promise<void> {
  const { rows } = await db.query<{ number: number; text: string }>(READ_VERSION)
  const [version] = rows
  if (version === undefined || version.number >= VERSION_MIN * 10_000) return
  throw new PostgresTooOldError(
    `The server is PostgreSQL ${version.text}. Curfew needs ${VERSION_MIN} or newer: upgrade the server.`,
  )
}

/**
 * Creates a readiness check, which resolves if the ledger answers and has the schema of this release.
 *
 * @throws {LedgerSchemaError} when migrations are missing.
 * @throws {PostgresTooOldError} when the server is older than PostgreSQL 16.
 */
export function createLedgerCheck(db: Queryable): () => Promise<void> {
  let migrated = false
  return async () => {
    if (migrated) {
      await db.query('select 1')
      return
    }
    await checkServerVersion(db)
    const pending = await pendingMigrations(db).catch((error: unknown) => {
      // Services of the older release keep working during an upgrade.
      if (error instanceof SchemaTooNewError) return []
      throw error
    })
    if (pending.length > 0)
      throw new LedgerSchemaError(
        `The database lacks ${pending.length} migrations of this release. Run: npx curfew migrate`,
      )
    migrated = true
  }
}

/** Names of the files that `migrate` would apply. It changes nothing, and throws the same errors. */
export async function pendingMigrations(
  db: Queryable,
  { folder = MIGRATIONS_FOLDER }: MigrateOptions = {},
): Promise<string[]> {
  const migrations = await readMigrations(folder)
  const { rows } = await db.query<{ found: boolean }>(HAS_TABLE)
  const applied = rows[0]?.found === true ? await readApplied(db) : []
  return pending(migrations, applied).map(({ name }) => name)
}

async function applyNext(transaction: Queryable, migrations: readonly Migration[]): Promise<string | null> {
  // A migration, or the wait for another migrator, may take long.
  await transaction.query('set local statement_timeout = 0')
  await transaction.query({ text: LOCK, values: [MIGRATION_LOCK], timeoutMs: DAY_MS })
  await transaction.query(CREATE_TABLE)
  const [next] = pending(migrations, await readApplied(transaction))
  if (next === undefined) return null
  await transaction.query(INSERT_APPLIED, [next.number, next.name, next.checksum])
  try {
    await transaction.query({ text: next.sql, timeoutMs: DAY_MS })
  } catch (error) {
    const cause = error instanceof LedgerSchemaError ? error.cause : error
    if (cause instanceof CurfewError) throw cause
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new MigrationError(`${next.name} failed and was rolled back: ${reason}`, { cause })
  }
  return next.name
}

async function readApplied(db: Queryable): Promise<Applied[]> {
  const { rows } = await db.query<Applied>(READ_APPLIED)
  return rows
}

/** The migrations left to apply. Checks first that the applied migrations equal the files. */
function pending(migrations: readonly Migration[], applied: readonly Applied[]): readonly Migration[] {
  const newer = applied[migrations.length]
  if (newer !== undefined) {
    throw new SchemaTooNewError(
      `the database has migration ${newer.name}, which this release does not know; run the release that applied it, or a newer one`,
    )
  }
  for (const [index, { name, checksum }] of applied.entries()) {
    const file = migrations[index]
    if (file?.name !== name) {
      throw new MigrationError(
        `${name} was applied to the database but is missing from the migrations; restore the file`,
      )
    }
    if (file.checksum !== checksum) {
      throw new MigrationError(
        `${name} was changed after it was applied; restore it and put the change into a new migration`,
      )
    }
  }
  return migrations.slice(applied.length)
}

async function readMigrations(folder: string): Promise<readonly Migration[]> {
  const names = (await readdir(folder)).filter((name) => name.endsWith('.sql')).sort()
  return Promise.all(
    names.map(async (name, index): Promise<Migration> => {
      const number = Number(/^(\d{4})_[a-z0-9_]+\.sql$/.exec(name)?.[1])
      if (number !== index + 1) {
        const expected = String(index + 1).padStart(4, '0')
        throw new MigrationError(`${name}: expected a file named ${expected}_….sql; numbers have no gaps`)
      }
      const sql = await readFile(join(folder, name), 'utf8')
      // A checkout may convert line ends. The migration is the same.
      const checksum = createHash('sha256').update(sql.replaceAll('\r\n', '\n')).digest('hex')
      return { number, name, checksum, sql }
    }),
  )
}
