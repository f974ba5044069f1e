#!/usr/bin/env node
import { migrate, openDatabase } from '@curfew/ledger'
import { readEnvironment, readOrExit } from '@curfew/runtime'
import { readStandaloneConfig, runStandalone } from '@curfew/standalone'
import { apiKeys } from './api-keys.ts'
import { type Command, parse, UsageError } from './arguments.ts'
import { dlq } from './dlq.ts'
import { doctor } from './doctor.ts'
import { events } from './events.ts'
import { keys } from './keys.ts'
import { log } from './log.ts'
import { logoutEveryone } from './logout-everyone.ts'
import { receipt } from './receipt.ts'
import { rp } from './rp.ts'
import { sessions } from './sessions.ts'
import { sla } from './sla.ts'
import { subjects } from './subjects.ts'
import { usage, usageHint } from './usage.ts'
import { webhooks } from './webhooks.ts'

// The curfew command. Exit status: 0 done, 1 it ran and the answer is no, 2 usage.

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
  events,
  'logout-everyone': logoutEveryone,
  dlq,
  'api-keys': apiKeys,
  keys,
  doctor,
  rp,
  sla,
  sessions,
  subjects,
  webhooks,
  receipt,
  log,
}

async function main([name, ...args]: readonly string[]): Promise<number> {
  if (name === 'help' || [name, ...args].some((word) => word === '--help' || word === '-h')) {
    process.stdout.write(usage(name === 'help' ? args[0] : name))
    return 0
  }
  try {
    if (name === undefined) throw new UsageError('Which command?')
    const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined
    if (command === undefined) throw new UsageError(`There is no command ${name}.`)
    return await command(args)
  } catch (error) {
    if (error instanceof UsageError) {
      process.stderr.write(`${error.message}\n${usageHint(name)}`)
      return 2
    }
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
    return 1
  }
}

process.exitCode = await main(process.argv.slice(2))
