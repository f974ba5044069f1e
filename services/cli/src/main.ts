#!/usr/bin/env node
import { apiKeys } from './api-keys.ts'
import { type Command, group, UsageError } from './arguments.ts'
import { dlq } from './dlq.ts'
import { doctor } from './doctor.ts'
import { events } from './events.ts'
import { issuer } from './issuer.ts'
import { issuerLogout } from './issuer-logout.ts'
import { keys } from './keys.ts'
import { log } from './log.ts'
import { quarantine } from './quarantine.ts'
import { receipt } from './receipt.ts'
import { rp } from './rp.ts'
import { sessions } from './sessions.ts'
import { sla } from './sla.ts'
import { subjects } from './subjects.ts'
import { usage, usageHint } from './usage.ts'
import { webhooks } from './webhooks.ts'

// The curfew command. Exit status: 0 success, 1 failure or a negative answer, 2 wrong usage (a UsageError).

/** The commands that need the code of all services. They are loaded only on use, so that the other commands start fast. */
const here =
  (name: 'up' | 'migrate'): Command =>
  async (args) =>
    (await import('./here.ts'))[name](args)

const COMMANDS: Readonly<Record<string, Command>> = {
  up: here('up'),
  migrate: here('migrate'),
  events,
  'issuer-logout': issuerLogout,
  dlq,
  quarantine,
  'api-keys': apiKeys,
  keys,
  doctor,
  'event-log': group('event-log', {
    // It needs the code of the services, so it is loaded only on use.
    use: async (args) => (await import('./event-log-use.ts')).useCommand(args),
  }),
  issuer,
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

// A reader such as `head` closes the pipe when it has enough, which is not a failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit()
  throw error
})
process.exitCode = await main(process.argv.slice(2))
