import { migrate as migrateLedger, openDatabase } from '@curfew/ledger'
import { readEnvironment, readOrExit } from '@curfew/runtime'
import { readStandaloneConfig, runStandalone } from '@curfew/standalone'
import { parse } from './arguments.ts'

// The commands that work on this machine and do not call the API.

/** `curfew up`: runs all services in one process. */
export async function up(args: readonly string[]): Promise<number> {
  const { values } = parse(args, { demo: { type: 'boolean' } })
  return runStandalone(readOrExit(readStandaloneConfig), {
    demo: values.demo === true,
    print: (text) => process.stdout.write(text),
  })
}

/** `curfew migrate`: migrates the database of `DATABASE_URL` to the schema of this release. */
export async function migrate(args: readonly string[]): Promise<number> {
  parse(args, {})
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
    const applied = await migrateLedger(db)
    process.stdout.write(
      applied.length === 0 ? 'The ledger is up to date.\n' : `Applied ${applied.join(', ')}.\n`,
    )
    return 0
  } finally {
    await db.end()
  }
}
