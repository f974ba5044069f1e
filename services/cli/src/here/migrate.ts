import { migrate, openDatabase } from '@curfew/ledger'
import { readEnvironment, readOrExit } from '@curfew/runtime'

/** `curfew migrate`: migrates the database of `DATABASE_URL` to the schema of this release. */
export async function runMigrate(): Promise<number> {
  const { databaseUrl } = readOrExit((env) =>
    readEnvironment(env, (read) => ({
      databaseUrl: read.url('DATABASE_URL', { protocols: ['postgres:', 'postgresql:'], required: true }),
    })),
  )
  const db = await openDatabase(databaseUrl, {
    applicationName: 'curfew migrate',
    onWait: (error) => process.stderr.write(`${error.message}; waiting for it.\n`),
  })
  try {
    const applied = await migrate(db)
    process.stdout.write(
      applied.length === 0 ? 'The ledger is up to date.\n' : `Applied ${applied.join(', ')}.\n`,
    )
    return 0
  } finally {
    await db.end()
  }
}
