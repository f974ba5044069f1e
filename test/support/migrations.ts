import { cp, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Database, MIGRATIONS_FOLDER, migrate } from '@curfew/ledger'

/** Empties a database and brings it to the schema as it was before the migration of this name, without its number. */
export async function migrateUpTo(db: Database, name: string): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'curfew-migrations-'))
  try {
    await db.query('drop schema public cascade; create schema public')
    const all = (await readdir(MIGRATIONS_FOLDER)).sort()
    const place = all.findIndex((each) => each.endsWith(`_${name}.sql`))
    for (const each of all.slice(0, place)) await cp(join(MIGRATIONS_FOLDER, each), join(folder, each))
    await migrate(db, { folder })
  } finally {
    await rm(folder, { recursive: true })
  }
}
