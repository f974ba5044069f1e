#!/usr/bin/env node
import { migrate, openDatabase } from '@curfew/ledger'
import { readEnvironment, readOrExit } from '@curfew/runtime'
import { readStandaloneConfig, runStandalone } from '@curfew/standalone'
import { apiKeys } from './api-keys.ts'
import { type Command, parse, UsageError } from './arguments.ts'
import { dlq } from './dlq.ts'
import { doctor } from './doctor.ts'
import { keys } from './keys.ts'
import { rp } from './rp.ts'
import { webhooks } from './webhooks.ts'

// The curfew command. Exit status: 0 done, 1 it ran and the answer is no, 2 usage.

const USAGE = `Usage: curfew COMMAND

  up [--demo]   run everything in one process: API, delivery, embedded PostgreSQL
                --demo: with three relying parties on loopback and one logout
  migrate       bring the ledger of DATABASE_URL to this release's schema

  dlq list      dead letters: what went wrong, and what would mend it
  dlq show ID   one of them, with every attempt
  dlq replay    put them back; shows first what that touches, and asks
                --dry-run         show only
                --yes             do not ask
                --include-lapsed  also those whose session is over by itself
                --follow ID       watch a replay that is under way
                --cancel ID       stop one
  which ones:   --issuer NAME --client CLIENT_ID --reason REASON --from TIME --to TIME
                --id ID (may be repeated; replay only) --limit N (list only)

  rp list       relying parties: who is told, and where
  rp show ID    one of them
  rp put FILE   register one, or replace it: OIDC client metadata as JSON, or as its IdP exports it
                --client CLIENT_ID  where the file names none
  rp delete ID  remove one; its history stays
  rp enable ID, rp disable ID
                --endpoint NAME   just one of its curfew.endpoints
  rp import FILE
                many at once, all or none: NDJSON, a JSON list, or a Keycloak realm
                --dry-run         check only
  rp export     all of an issuer as NDJSON, as import takes it
  rp health ID  what waits, what was acknowledged, how fast
  rp probe ID   send its endpoint the tokens that it must take and must refuse
                --uri URI         another endpoint, registered or not
                --alg ALGORITHM   what its tokens are signed with, if not as registered
                exit status 0: every must is passed
  whose:        --issuer NAME (but for rp probe not needed where there is just one); FILE may be -

  keys list     signing keys, and when they turn (--all: those that are retired too)
  keys generate --alg ALG, keys import FILE (a private JWK; --alg ALG, --sign-now)
  keys rotate   let new keys take over: published before (--lead-hours H), and after
                --alg ALG        of this algorithm only
                --immediately    sign now; relying parties refuse until they have fetched it
                --every-days N   by themselves from now on, or never
  keys retire KID [--compromised]   out of service; --compromised: out of the key set at once
  keys rewrap   put what lies under CURFEW_MASTER_KEY_OLD under CURFEW_MASTER_KEY, in DATABASE_URL
  doctor        database, event log, master key, clock, and whether the IdP publishes our keys
  of which one: --issuer NAME, where there are several

  api-keys list       who may call
  api-keys create     a new key, shown this once
                --name NAME --scope SCOPE (may be repeated)
                --issuer NAME --client CLIENT_ID (may be repeated)  what it is bound to
                --rate REQUESTS_PER_SECOND --expires TIME
  api-keys revoke ID  end one

  webhooks list         where operators are told of what happens
  webhooks put NAME     register or change one; shows the secret of a new one, this once
                --to URL, and if you like --type TYPE (may be repeated) --issuer NAME --disabled
  webhooks delete NAME
  webhooks test NAME    send it a test, and say what it answers

All but up and migrate speak to a running Curfew: --url URL, --key KEY, or CURFEW_URL and CURFEW_KEY.
--json: for machines.

Settings come from the environment; the README lists them.
`

async function up(args: readonly string[]): Promise<number> {
  const { values } = parse(args, { demo: { type: 'boolean' } })
  return runStandalone(readOrExit(readStandaloneConfig), {
    demo: values.demo === true,
    print: (text) => process.stdout.write(text),
  })
}

async function migrateLedger(args: readonly string[]): Promise<number> {
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
    const applied = await migrate(db)
    process.stdout.write(
      applied.length === 0 ? 'The ledger is up to date.\n' : `Applied ${applied.join(', ')}.\n`,
    )
    return 0
  } finally {
    await db.end()
  }
}

const COMMANDS: Readonly<Record<string, Command>> = {
  up,
  migrate: migrateLedger,
  dlq,
  'api-keys': apiKeys,
  keys,
  doctor,
  rp,
  webhooks,
}

async function main([name, ...args]: readonly string[]): Promise<number> {
  if (name === '--help' || name === 'help') {
    process.stdout.write(USAGE)
    return 0
  }
  try {
    if (name === undefined) throw new UsageError('Which command?')
    const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined
    if (command === undefined) throw new UsageError(`There is no command ${name}.`)
    return await command(args)
  } catch (error) {
    if (error instanceof UsageError) {
      process.stderr.write(`${error.message}\n\n${USAGE}`)
      return 2
    }
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
    return 1
  }
}

process.exitCode = await main(process.argv.slice(2))
